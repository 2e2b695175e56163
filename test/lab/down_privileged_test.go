// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/test/lab"
)

// traces lists what is left of a lab, found without the lab's own code.
func traces(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+name+"/") || strings.Contains(line, "/"+name+"-") || strings.Contains(line, "waggle-lab/"+name+" ") {
			found = append(found, "mount: "+line)
		}
	}
	for _, pattern := range []string{"/run/waggle-lab/" + name + "*", "/run/netns/" + name + "-*"} {
		paths, _ := filepath.Glob(pattern)
		found = append(found, paths...)
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(path, "waggle-lab/"+name) {
			found = append(found, path)
		}
		return nil
	})
	if _, err := net.InterfaceByName("wgl-" + name); err == nil {
		found = append(found, "device wgl-"+name)
	}
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte("LAB_TEST_UP="+name+"\x00")) {
			found = append(found, "process: "+path)
		}
	}
	return found
}

func assertNoTraces(t *testing.T, name string) {
	t.Helper()
	if found := traces(t, name); len(found) > 0 {
		t.Errorf("left of lab %s:\n%s", name, strings.Join(found, "\n"))
	}
}

func startUp(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LAB_TEST_UP="+name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestDownAfterKill kills Up at random instructions. The kills spread over twice
// the time that an undisturbed Up takes, so that some hit a finished lab.
func TestDownAfterKill(t *testing.T) {
	const name = "tkill"
	start := time.Now()
	if err := startUp(t, name).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(start)
	var killed int
	for i := range rounds {
		up := startUp(t, name)
		timer := time.AfterFunc(rand.N(2*whole), func() { up.Process.Signal(syscall.SIGKILL) })
		if err := up.Wait(); err != nil {
			killed++
		}
		timer.Stop()
		if i%3 == 0 {
			continue // the next Up meets the leftover
		}
		if err := lab.Down(t.Context(), name); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if assertNoTraces(t, name); t.Failed() {
			t.Fatalf("round %d", i)
		}
	}
	t.Logf("killed %d times within %v", killed, 2*whole)
	if err := lab.Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	assertNoTraces(t, name)
}

// TestDownKilled kills Down itself, and then runs it again.
func TestDownKilled(t *testing.T) {
	const name = "tdownk"
	for i := range rounds / 4 {
		if err := startUp(t, name).Wait(); err != nil {
			t.Fatal(err)
		}
		// Up begins with Down: over a running lab, an early kill hits that.
		again := startUp(t, name)
		timer := time.AfterFunc(rand.N(20*time.Millisecond), func() { again.Process.Signal(syscall.SIGKILL) })
		again.Wait()
		timer.Stop()
		if err := lab.Down(t.Context(), name); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		assertNoTraces(t, name)
	}
}

// rounds of killing at random times: most moments of bringing a lab up are hit.
const rounds = 120

func TestUpInterrupted(t *testing.T) {
	const name = "tint"
	for delay := time.Duration(0); delay < 30*time.Millisecond; delay += 3 * time.Millisecond {
		up := startUp(t, name)
		timer := time.AfterFunc(delay, func() { up.Process.Signal(syscall.SIGINT) })
		err := up.Wait()
		timer.Stop()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
			assertNoTraces(t, name) // it noticed, and cleaned up by itself
		}
		if err := lab.Down(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lab.Up(ctx, lab.Topology{Name: name}); err == nil {
		t.Error("Up succeeded with a context that had ended")
	}
	assertNoTraces(t, name)
}

func TestDownOfNothing(t *testing.T) {
	if err := lab.Down(t.Context(), "tnothing"); err != nil {
		t.Error(err)
	}
	if _, err := lab.Open("tnothing"); err == nil {
		t.Error("opened a lab that is not there")
	}
	assertNoTraces(t, "tnothing")
}

// TestDownReleasesKernelObjects: a lab made later copies the mounts it finds. If
// it kept them, a map pinned in the older lab and the devices in the older lab's
// namespaces would outlive Down.
func TestDownReleasesKernelObjects(t *testing.T) {
	older, err := lab.Up(t.Context(), lab.Topology{Name: "told"})
	if err != nil {
		t.Fatal(err)
	}
	node := older.Host("node1")
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	mapInfo, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(node.BPFRoot() + "/pinned"); err != nil {
		t.Fatal(err)
	}
	m.Close()
	xdp := attachXDP(t, node)
	lab.ForTest(t, lab.Topology{Name: "tnew"})
	if err := lab.Down(t.Context(), older.Name); err != nil {
		t.Fatal(err)
	}
	mapID, _ := mapInfo.ID()
	// Namespaces are dismantled by a kernel thread.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = lab.Eventually(ctx, func() error {
		if m, err := ebpf.NewMapFromID(mapID); err == nil {
			m.Close()
			return errAlive("map")
		}
		if p, err := ebpf.NewProgramFromID(xdp); err == nil {
			p.Close()
			return errAlive("program")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

type errAlive string

func (e errAlive) Error() string { return string(e) + " is still in the kernel" }

// attachXDP attaches a program that only the device holds on to.
func attachXDP(t *testing.T, h *lab.Host) ebpf.ProgramID {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}) // XDP_PASS
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	err = h.DoNet(func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFd(eth0, p.FD())
	})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}
