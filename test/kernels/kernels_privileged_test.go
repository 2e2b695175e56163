// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kernels

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// allSeries are the kernels that waggle supports and tests, floor first.
var allSeries = []string{"6.1", "6.12"}

// tcx says which of them must have it.
var tcx = map[string]string{"6.12": "yes"}

var guestRun = flag.String("guest.run", "", "run only the guest tests that match this pattern")

// TestKernels runs the tests of package guest in each kernel: every program
// loads, and pods and services work.
func TestKernels(t *testing.T) {
	runTests(t, buildTests(t, "guest", "./guest"))
}

// TestPrograms runs the tables of packets of package bpf in each kernel.
func TestPrograms(t *testing.T) {
	runTests(t, buildTests(t, "privileged", "../../bpf"))
}

func runTests(t *testing.T, payload string) {
	for _, series := range allSeries {
		t.Run(series, func(t *testing.T) {
			start := time.Now()
			kernel, err := Fetch(t.Context(), series)
			if err != nil {
				t.Fatal(err)
			}
			fetched := time.Now()
			guest := &Guest{
				Kernel:  kernel,
				Payload: payload,
				Args:    []string{"-test.v", "-test.run", *guestRun},
				Env:     []string{"WAGGLE_KERNEL_RELEASE=" + kernel.Release, "WAGGLE_KERNEL_TCX=" + tcx[series]},
				Modules: DatapathModules,
			}
			code, err := guest.Run(t.Context(), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			if code != 0 {
				t.Fatalf("guest tests exited with code %d", code)
			}
			t.Logf("%s: fetched in %s, ran in %s", kernel.Release,
				fetched.Sub(start).Round(time.Millisecond), time.Since(fetched).Round(time.Millisecond))
		})
	}
}

// TestKernelPanics: a guest that takes its kernel down is an error that shows
// the panic, not an exit code.
func TestKernelPanics(t *testing.T) {
	guest := &Guest{Kernel: anyKernel(t), Payload: buildStatic(t, t.TempDir()), Args: []string{"panic"}}
	expectError(t, t.Context(), guest, "kernel panicked", "sysrq triggered crash")
}

// TestGuestHangs: the time limit ends a guest that does not end by itself.
func TestGuestHangs(t *testing.T) {
	guest := &Guest{Kernel: anyKernel(t), Payload: buildStatic(t, t.TempDir()), Args: []string{"hang"}, Timeout: 10 * time.Second}
	expectError(t, t.Context(), guest, "deadline exceeded", "waiting forever")
}

// TestContextEnds: so does the caller, and QEMU is gone when Run returns.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	guest := &Guest{Kernel: anyKernel(t), Payload: buildStatic(t, t.TempDir()), Args: []string{"hang"}}
	// Cancel on the payload's own line: the guest is certainly running.
	expectErrorTo(t, ctx, guest, lineFunc(func(line string) {
		if line == "waiting forever" {
			cancel()
		}
	}), "context canceled")
}

// TestExitCode: the payload's exit code, arguments, environment and files pass
// through, and an output that ends without a newline is not lost.
func TestExitCode(t *testing.T) {
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	guest := &Guest{
		Kernel: anyKernel(t), Payload: buildStatic(t, t.TempDir()), Args: []string{"exit", "/data/note"},
		Env: []string{"PROBE=set"}, Files: map[string]string{"/data/note": note},
	}
	found := false
	code, err := guest.Run(t.Context(), lineFunc(func(line string) {
		t.Log(line)
		found = found || line == "note=from the host PROBE=set"
	}))
	if err != nil || code != 7 || !found {
		t.Fatalf("exit code %d, error %v, output found %v", code, err, found)
	}
}

func anyKernel(t *testing.T) *Kernel {
	t.Helper()
	kernel, err := Fetch(t.Context(), allSeries[0])
	if err != nil {
		t.Fatal(err)
	}
	return kernel
}

// buildTests compiles the tests of a package to a static binary.
func buildTests(t *testing.T, tags, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "guest.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", tags, "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build tests of %s: %v: %s", pkg, err, out)
	}
	return path
}
