// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupParent holds the cgroups of all labs. No controller is ever enabled
// below it, so processes may live in inner cgroups as well as in leaves.
const cgroupParent = "waggle-lab"

// cgroup2Mount returns where the cgroup2 hierarchy is mounted: /sys/fs/cgroup on
// most machines, /sys/fs/cgroup/unified where version 1 controllers are in use.
var cgroup2Mount = sync.OnceValues(func() (string, error) {
	mounts, err := mountsBelow("/")
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.fsType == "cgroup2" && isCgroup2(m.point) {
			return m.point, nil
		}
	}
	return "", errors.New("find cgroup2: not mounted (mount -t cgroup2 none /sys/fs/cgroup)")
})

// isCgroup2 asks the file system itself, for another mount may cover the point.
func isCgroup2(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// labCgroup returns the folder of a lab's cgroups. Up makes sure that there is a
// cgroup2 mount; without one the result is a path that does not exist.
func labCgroup(name string) string {
	mount, err := cgroup2Mount()
	if err != nil {
		mount = "/sys/fs/cgroup"
	}
	return filepath.Join(mount, cgroupParent, name)
}

// cgroupProcs returns the processes in a cgroup and below it. A cgroup that
// does not exist has none.
func cgroupProcs(root string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return ignoreGone(err)
	})
	return pids, err
}

// removeCgroups removes the cgroups of members, deepest first. One that is busy
// has a process that is just dying, or one that was about to join when the others
// were killed.
func (m *members) removeCgroups(ctx context.Context) error {
	root := m.cgroup
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return ignoreGone(err)
	})
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("still busy after 10s"))
	defer cancel()
	for _, dir := range slices.Backward(dirs) {
		err := poll(ctx, 10*time.Millisecond, func() (bool, error) {
			err := ignoreGone(unix.Rmdir(dir))
			if errors.Is(err, unix.EBUSY) {
				return false, m.killAll(ctx)
			}
			return err == nil, err
		})
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	os.Remove(filepath.Dir(root)) // fails, as it should, while other labs are there
	return nil
}

func ignoreGone(err error) error {
	// ENODEV: a cgroup removed between opening and reading one of its files.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
