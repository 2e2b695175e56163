// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// podCgroups are the kubelet's names for the cgroup of all pods, with the drivers
// cgroupfs and systemd.
var podCgroups = []string{"kubepods", "kubepods.slice"}

// removeCgroups removes the cgroups of pods, in each hierarchy that there is.
func removeCgroups(ctx context.Context, root string, out io.Writer) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "cgroup" && m.FSType != "cgroup2", false
	})
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for _, m := range mounts {
		for _, name := range podCgroups {
			dir := filepath.Join(m.Mountpoint, root, name)
			if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := removeCgroup(ctx, dir); err != nil {
				errs = append(errs, err)
				continue
			}
			say(out, "removed", dir, "")
		}
	}
	return errors.Join(errs...)
}

// cgroupPatience is beyond what the kernel needs. A variable for tests.
var cgroupPatience = 5 * time.Second

// removeCgroup removes a cgroup and those in it. One whose processes have ended is
// busy until the kernel is done with them, which nothing tells for all
// hierarchies: it is tried for a while.
func removeCgroup(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, cgroupPatience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := removeCgroupOnce(dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", err, whoIsIn(dir))
		}
	}
}

// removeCgroupOnce removes only folders: the files in them are the kernel's.
func removeCgroupOnce(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() {
			errs = append(errs, removeCgroupOnce(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove cgroup", Path: dir, Err: err}
	}
	return nil
}

func whoIsIn(dir string) string {
	var pids []string
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "cgroup.procs" {
			b, _ := os.ReadFile(path)
			pids = append(pids, strings.Fields(string(b))...)
		}
		return nil // what goes meanwhile is welcome to
	})
	if len(pids) == 0 {
		return "try again"
	}
	return "the processes " + strings.Join(pids, ", ") + " run in it: stop them (is there another Kubernetes on this machine?)"
}
