// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const childEnv = "WAGGLE_RUNTIME_TEST"

// TestMain runs the tests as process 1 of their own process, mount and network
// namespaces, with a /run of their own: whatever containerd and its shims leave
// behind ends with them.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(parent())
	}
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "enter namespaces:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func parent() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start tests in namespaces: run as root:", err)
		return 1
	}
	return 0
}

func enter() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.LinkSetUp(lo),
		unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("run", "/run", "tmpfs", 0, "mode=755"),
	)
}
