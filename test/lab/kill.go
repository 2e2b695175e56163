// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// members knows which processes belong to a lab.
type members struct {
	namespaces map[string]bool // "net:[4026532281]", as links in /proc/<pid>/ns read
	machine    map[string]bool // network namespaces whose processes are never ours
	cgroup     string
}

func findMembers(name string) (*members, error) {
	m := &members{namespaces: map[string]bool{}, machine: map[string]bool{}, cgroup: labCgroup(name)}
	for _, pid := range []string{"1", "self"} {
		if ns, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil {
			m.machine[ns] = true
		}
	}
	mounts, err := labMounts(name)
	if err != nil {
		return nil, err
	}
	for _, mount := range mounts {
		// Never UTS: an unfinished host's could be anyone's.
		if mount.fsType == "nsfs" && (strings.HasPrefix(mount.root, "net:") || strings.HasPrefix(mount.root, "mnt:")) {
			m.namespaces[mount.root] = true
		}
	}
	return m, nil
}

// pids returns the lab's processes: those in its cgroups, and those in one of its
// namespaces unless their network namespace is the machine's.
func (m *members) pids() ([]int, error) {
	pids, err := cgroupProcs(m.cgroup)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	found := map[int]bool{}
	for _, pid := range pids {
		found[pid] = true
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && !found[pid] && m.inNamespaces(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (m *members) inNamespaces(pid int) bool {
	read := func(kind string) string {
		ns, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind)) // gone: no member
		return ns
	}
	netns := read("net")
	if netns == "" || m.machine[netns] {
		return false
	}
	return m.namespaces[netns] || m.namespaces[read("mnt")]
}

// killAll kills the processes and waits until they are gone. It looks again until
// it finds nobody: what was found may have forked meanwhile.
func (m *members) killAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("processes still there after 20s"))
	defer cancel()
	for {
		pids, err := m.pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if slices.Contains(pids, os.Getpid()) {
			return ErrInside
		}
		for _, pid := range pids {
			if err := m.kill(ctx, pid); err != nil {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
	}
}

// kill kills one process if it still is the lab's, and waits for its end. The
// pidfd keeps the number from being reused in between.
func (m *members) kill(ctx context.Context, pid int) error {
	if pid <= 1 {
		return errors.New("refused: not a process of a lab")
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !m.inNamespaces(pid) && !inCgroup(pid, m.cgroup) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return waitPidfd(ctx, fd)
}

// checkOutside refuses to build or remove labs from within one: /run is another
// there, and the caller would be among the killed.
func checkOutside() error {
	if inCgroup(os.Getpid(), filepath.Dir(labCgroup("any"))) {
		return ErrInside
	}
	return nil
}

// inCgroup tells whether a process is in a cgroup2 folder or below it.
func inCgroup(pid int, root string) bool {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // gone: in none
	mount, err := cgroup2Mount()
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return within(filepath.Join(mount, path), root)
		}
	}
	return false
}

// waitPidfd waits until the process behind a pidfd has ended.
func waitPidfd(ctx context.Context, fd int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		// The time limit only bounds how long a cancelled context goes unnoticed.
		n, err := unix.Poll(fds, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
