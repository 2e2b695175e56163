// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs the tests of a package in a network namespace and a
// cgroup of their own, so that no goroutine and no forgotten thread of a test
// can ever touch the machine's.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
)

// childEnv holds the child's cgroup, and marks it as the child.
const childEnv = "WAGGLE_TEST_CGROUP"

// Main is for TestMain: os.Exit(sandbox.Main(m)). The whole test binary runs
// again as a child in new namespaces, with its loopback device up.
func Main(m *testing.M) int {
	if os.Getenv(childEnv) == "" {
		code, err := parent()
		if err != nil {
			fmt.Fprintln(os.Stderr, "sandbox:", err)
			return 1
		}
		return code
	}
	if err := errors.Join(rlimit.RemoveMemlock(), loopbackUp()); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	return m.Run()
}

// Cgroup is the cgroup v2 folder that this process is in.
func Cgroup() string { return os.Getenv(childEnv) }

func parent() (code int, err error) {
	root, err := cgroup2()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(root, "waggle-test-")
	if err != nil {
		return 0, fmt.Errorf("create cgroup: %w: run as root", err)
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	fd, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer fd.Close()

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNET,
		UseCgroupFD: true,
		CgroupFD:    int(fd.Fd()),
		Pdeathsig:   syscall.SIGKILL,
	}
	// The go command asks for a stack trace by a signal: the child's matters.
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start tests in a network namespace: %w: run as root", err)
	}
	go func() {
		for s := range sigs {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// cgroup2 finds where cgroup v2 is mounted.
func cgroup2() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return filepath.Clean(f[1]), nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
}
