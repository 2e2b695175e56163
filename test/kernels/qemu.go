// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

const qemuProgram = "qemu-system-x86_64"

// commandLine is the guest kernel's. panic=-1 with QEMU's -no-reboot ends the
// run at once; oops=panic because a kernel that has stumbled proves nothing.
const commandLine = "console=ttyS0 quiet panic=-1 oops=panic " + wire.GuestFlag

// acceleratorEnv forces QEMU's accelerator, for a /dev/kvm that starts guests
// but does not run them well.
const acceleratorEnv = "WAGGLE_QEMU_ACCEL"

// accelerator returns the fastest accelerator that works here. Only QEMU knows:
// a /dev/kvm that opens may still lack what QEMU sets on each CPU, and then
// QEMU aborts without falling back to emulation.
func accelerator(ctx context.Context, qemu string) string {
	if forced := os.Getenv(acceleratorEnv); forced != "" {
		return forced
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return "tcg,thread=multi"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// A machine that is set up, never started, and told to quit.
	probe := exec.CommandContext(ctx, qemu, "-accel", "kvm", "-cpu", "max", "-S",
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-monitor", "stdio")
	probe.Stdin = strings.NewReader("quit\n")
	if err := probe.Run(); err != nil {
		return "tcg,thread=multi"
	}
	return "kvm"
}

// qemuArgs describes the machine: two serial ports, memory, no disk, no
// network card. The payload's port is file descriptor 3.
func (g *Guest) qemuArgs(accel, initramfs string) []string {
	return []string{
		"-machine", "q35", "-accel", accel, "-cpu", "max", "-smp", "2",
		"-m", strconv.Itoa(g.memoryMiB()),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none",
		"-chardev", "stdio,id=kernel,signal=off", "-serial", "chardev:kernel",
		"-chardev", "socket,id=payload,fd=3", "-serial", "chardev:payload",
		"-kernel", g.Kernel.Image, "-initrd", initramfs, "-append", commandLine,
	}
}

// command prepares QEMU so that nothing outlives the run: it has a process
// group of its own, killed as one when ctx ends, and the kernel kills it when
// this process dies before that.
func command(ctx context.Context, qemu string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, qemu, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// socketPair returns a connection and the file to hand to a child for its
// other end.
func socketPair() (net.Conn, *os.File, error) {
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
