// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// cgroupRoot is where runc and the kubelet look for cgroups, and nowhere else.
const cgroupRoot = "/sys/fs/cgroup"

// Without these controllers the kubelet does not start (version 1) or cannot do
// what pods ask for (version 2).
var (
	controllersV1 = []string{"cpu", "cpuacct", "cpuset", "memory", "pids"}
	controllersV2 = []string{"cpu", "cpuset", "memory", "pids"}
)

var errNoCgroups = errors.New("find cgroups: none at " + cgroupRoot +
	": mount them, as in: mount -t cgroup2 cgroup2 " + cgroupRoot)

// detectCgroups returns the version of cgroups below root. Where both are mounted
// (systemd's hybrid), the controllers are those of version 1.
func detectCgroups(root string) (int, error) {
	f, err := os.Open(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return 0, fmt.Errorf("find cgroups: %w: is /proc mounted?", err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) {
		return m.Mountpoint != cgroupRoot && !strings.HasPrefix(m.Mountpoint, cgroupRoot+"/"), false
	})
	if err != nil {
		return 0, fmt.Errorf("find cgroups: %w", err)
	}
	var have []string
	version := 0
	for _, m := range mounts {
		switch {
		case m.FSType == "cgroup2" && m.Mountpoint == cgroupRoot:
			version = 2
			have = strings.Fields(read(root, cgroupRoot+"/cgroup.controllers"))
		case m.FSType == "cgroup":
			version = 1
			have = append(have, strings.Split(m.VFSOptions, ",")...)
		}
	}
	switch version {
	case 1:
		return 1, needControllers(have, controllersV1, "mount each below "+cgroupRoot+", or boot with cgroup version 2")
	case 2:
		return 2, needControllers(have, controllersV2, "enable them in the parent's cgroup.subtree_control, or boot without cgroup_disable=")
	}
	return 0, errNoCgroups
}

func needControllers(have, need []string, remedy string) error {
	missing := slices.DeleteFunc(slices.Clone(need), func(c string) bool { return slices.Contains(have, c) })
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("find cgroups: controllers missing at %s: %s: %s", cgroupRoot, strings.Join(missing, " "), remedy)
}
