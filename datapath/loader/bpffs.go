// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkBPFFS says why pins cannot live at root, if so.
func checkBPFFS(root string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fmt.Errorf("check bpfRoot %s: %w: create it and mount it: mount -t bpf bpf %s", root, err, root)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("check bpfRoot %s: %w: mount it: mount -t bpf bpf %s", root, ErrNotBPFFS, root)
	}
	return checkShared(root, "/proc/self/mountinfo", "/proc/1/mountinfo")
}

// checkShared compares the file system below root with those that the first
// process of the machine sees. A bpffs that a container mounted for itself goes
// away with the container, and all pins with it.
func checkShared(root, self, host string) error {
	dev, err := deviceOf(root, self)
	if err != nil {
		return err
	}
	f, err := os.Open(host)
	if err != nil {
		// Without the host's view (hidepid, another PID namespace's rules)
		// nothing can be said.
		return nil
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if fields := strings.Fields(sc.Text()); len(fields) > 4 && fields[2] == dev {
			return nil
		}
	}
	return fmt.Errorf("check bpfRoot %s: %w: mount it on the host (mount -t bpf bpf /sys/fs/bpf) and pass it in as a bind mount",
		root, ErrPrivateBPFFS)
}

// deviceOf returns the major:minor of the mount that holds path.
func deviceOf(path, mountinfo string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var dev, longest string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 {
			continue
		}
		mount := fields[4]
		// Later mounts on the same place hide earlier ones.
		if within(path, mount) && len(mount) >= len(longest) {
			dev, longest = fields[2], mount
		}
	}
	if dev == "" {
		return "", fmt.Errorf("find mount of %s: not in %s", path, mountinfo)
	}
	return dev, nil
}

func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// FindCgroup2 returns the folder where cgroup v2 is mounted.
func FindCgroup2() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", fmt.Errorf("find cgroup v2: no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup, or set cgroupRoot: %w", ErrNotCgroup2)
}

func checkCgroup2(root string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fmt.Errorf("check cgroupRoot %s: %w", root, err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("check cgroupRoot %s: %w: set cgroupRoot to a folder of the cgroup2 tree", root, ErrNotCgroup2)
	}
	return nil
}
