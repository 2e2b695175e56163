// SPDX-License-Identifier: Apache-2.0

package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waggle-net/waggle/test/await"
)

// A program that changes needs another name: containerd would keep the image that
// has the old one.
func TestPauseNameStandsForItsContent(t *testing.T) {
	if PauseName != "waggle.dev/pause:1" {
		t.Errorf("PauseName is %q: write its digests here, beside it", PauseName)
	}
	for arch, want := range map[string]digest.Digest{
		"amd64": "sha256:cbbef097c2316bbae530bdd4971e0b5aa109d785370157ec3389748514d00e7b",
		"arm64": "sha256:218721907ceb59fe6da7136d2c50dd5ea71398bd5592a7a7212ba9837d37ae8e",
	} {
		content, err := os.ReadFile("pause/pause_" + arch)
		if err != nil {
			t.Fatal(err)
		}
		if got := digest.FromBytes(content); got != want {
			t.Errorf("pause_%s is %s, want %s: count the tag of PauseName up", arch, got, want)
		}
	}
}

// The programs need no other file, and no page of theirs can be both written and
// executed.
func TestPauseELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		f, err := elf.Open("pause/pause_" + arch)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Machine != machine || f.Type != elf.ET_EXEC {
			t.Errorf("%s: %s %s", arch, f.Machine, f.Type)
		}
		var stack bool
		for _, p := range f.Progs {
			stack = stack || p.Type == elf.PT_GNU_STACK
			if p.Type == elf.PT_INTERP || p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
				t.Errorf("%s: has a segment %+v", arch, p.ProgHeader)
			}
		}
		if !stack {
			t.Errorf("%s: no segment says that the stack is not executable", arch)
		}
	}
}

func TestPauseEndsBySignal(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(program, pauseELF, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.Command(program)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitsForSignals(t, cmd.Process.Pid)
		// Others do not end its wait.
		for _, s := range []syscall.Signal{syscall.SIGCHLD, syscall.SIGSTOP, syscall.SIGCONT, sig} {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %s: %v, want exit code 0", sig, err)
		}
	}
}

// waitsForSignals waits until the process sleeps, which it does for signals alone.
func waitsForSignals(t *testing.T, pid int) {
	t.Helper()
	await.Until(t, func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && !strings.Contains(string(status), "\nState:\tS ") {
			err = errors.New(string(status))
		}
		return err
	})
}

func TestPauseCanBeWritten(t *testing.T) {
	if err := Write(io.Discard, Pause()); err != nil {
		t.Error(err)
	}
}
