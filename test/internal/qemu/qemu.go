// SPDX-License-Identifier: Apache-2.0

// Package qemu starts QEMU for tests: with the accelerator that works here, so
// that it ends with what started it, and with its serial ports read as lines.
package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Program is the QEMU of the only architecture that tests boot.
const Program = "qemu-system-x86_64"

// Arch is Debian's name, and Go's, for that architecture.
const Arch = "amd64"

// AcceleratorEnv forces QEMU's accelerator, for a /dev/kvm that starts guests
// but does not run them well.
const AcceleratorEnv = "WAGGLE_QEMU_ACCEL"

const emulation = "tcg,thread=multi"

// Accelerator returns the fastest accelerator that works here. Only QEMU knows:
// a /dev/kvm that opens may still lack what QEMU sets on each CPU, and then
// QEMU aborts without falling back to emulation.
func Accelerator(ctx context.Context, qemu string) string {
	if forced := os.Getenv(AcceleratorEnv); forced != "" {
		return forced
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return emulation
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// A machine that is set up, never started, and told to quit.
	probe := exec.CommandContext(ctx, qemu, "-accel", "kvm", "-cpu", "max", "-S",
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-monitor", "stdio")
	probe.Stdin = strings.NewReader("quit\n")
	if err := probe.Run(); err != nil {
		return emulation
	}
	return "kvm"
}

// Command prepares QEMU so that nothing outlives the run: it has a process
// group of its own, killed as one when ctx ends, and the kernel kills it when
// the thread that starts it ends before that. So lock the thread until Wait has
// returned.
func Command(ctx context.Context, qemu string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, qemu, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// SocketPair returns a connection and the file to hand to a child for its
// other end.
func SocketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "qemu port")
	defer ours.Close() // FileConn keeps a duplicate
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("open socket pair: %w", err)
	}
	return conn, theirs, nil
}
