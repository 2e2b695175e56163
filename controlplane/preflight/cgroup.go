// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// cgroupDir is where container runtimes expect cgroups; what is mounted right
// there decides between v1 and v2 for them.
const cgroupDir = "/sys/fs/cgroup"

// Controllers, in the order in which they are reported missing.
var (
	needed2 = []string{"cpu", "memory", "pids"}
	wanted2 = []string{"cpuset", "io"}
	needed1 = []string{"cpu", "cpuacct", "memory", "pids", "cpuset", "devices", "freezer"}
)

func (p *probe) cgroups(context.Context) []Finding {
	mounts, err := p.mounts("cgroup", "cgroup2")
	if err != nil {
		return fail("mount proc on /proc", "mounts cannot be read: %v", err)
	}
	var v1 []*mountinfo.Info
	for _, m := range mounts {
		switch {
		case m.FSType == "cgroup2" && m.Mountpoint == cgroupDir:
			return p.cgroup2(m)
		case m.FSType == "cgroup":
			v1 = append(v1, m)
		}
	}
	if len(v1) > 0 {
		return p.cgroup1(v1)
	}
	return fail("mount -t cgroup2 none "+cgroupDir+" (systemd does so by itself)", "no cgroups are mounted on %s", cgroupDir)
}

// mounts are those of some types of file systems.
func (p *probe) mounts(types ...string) ([]*mountinfo.Info, error) {
	f, err := os.Open(p.path("proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) {
		return !slices.Contains(types, m.FSType), false
	})
}

func (p *probe) cgroup2(m *mountinfo.Info) []Finding {
	if readOnly(m) {
		return fail("run it where cgroups can be written: no container, or a privileged one", "%s is mounted read-only", cgroupDir)
	}
	dir := filepath.Join(cgroupDir, p.CgroupRoot)
	text, found := p.read(dir, "cgroup.controllers")
	if !found {
		return fail("create it, or let pods have the root", "there is no cgroup %s", dir)
	}
	have := strings.Fields(text)
	if m := missing(needed2, have); len(m) > 0 {
		return fail(p.controllerRemedy(dir, m), "cgroup %s lacks the controllers %s", dir, strings.Join(m, ", "))
	}
	if m := missing(wanted2, have); len(m) > 0 {
		return warn(p.controllerRemedy(dir, m), "cgroup v2, but cgroup %s lacks the controllers %s: what needs them has no effect", dir, strings.Join(m, ", "))
	}
	return ok("v2 with %s", strings.Join(append(slices.Clone(needed2), wanted2...), ", "))
}

func (p *probe) cgroup1(mounts []*mountinfo.Info) []Finding {
	var have, fixed []string
	for _, m := range mounts {
		options := strings.Split(m.VFSOptions, ",")
		have = append(have, options...)
		if readOnly(m) {
			fixed = append(fixed, m.Mountpoint)
		}
	}
	if m := missing(needed1, have); len(m) > 0 {
		return fail(p.mountRemedy(m), "cgroup v1 without the hierarchies %s", strings.Join(m, ", "))
	}
	if len(fixed) > 0 {
		return fail("run it where cgroups can be written: no container, or a privileged one", "mounted read-only: %s", strings.Join(fixed, ", "))
	}
	return ok("v1: works, but upstream Kubernetes stops supporting it: boot with systemd.unified_cgroup_hierarchy=1 for v2")
}

// readOnly says whether a mount or its file system cannot be written to.
func readOnly(m *mountinfo.Info) bool {
	return slices.Contains(strings.Split(m.Options, ","), "ro") || slices.Contains(strings.Split(m.VFSOptions, ","), "ro")
}

// controllerRemedy is for a controller that cgroup v2 does not show.
func (p *probe) controllerRemedy(dir string, missing []string) string {
	if r := p.bootRemedy(missing); r != "" {
		return r
	}
	if dir != cgroupDir {
		return fmt.Sprintf("echo '+%s' > %s", strings.Join(missing, " +"), filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"))
	}
	// Only a cgroup that is not the machine's root has a type.
	if p.exists(cgroupDir, "cgroup.type") {
		return "let the container's manager delegate them (in a unit: Delegate=yes)"
	}
	return "unmount the v1 hierarchies that hold them, or use a kernel that has them"
}

// mountRemedy is for a v1 hierarchy that is not mounted.
func (p *probe) mountRemedy(missing []string) string {
	if r := p.bootRemedy(missing); r != "" {
		return r
	}
	dir := filepath.Join(cgroupDir, missing[0])
	r := fmt.Sprintf("mkdir -p %s && mount -t cgroup -o %s cgroup %s", dir, missing[0], dir)
	if len(missing) > 1 {
		r += ", and so for the others"
	}
	return r
}

// bootRemedy is for controllers that were turned off when the kernel was booted,
// as memory is on the Raspberry Pi.
func (p *probe) bootRemedy(missing []string) string {
	text, _ := p.read("proc/cgroups")
	for line := range strings.Lines(text) {
		f := strings.Fields(line) // subsys_name hierarchy num_cgroups enabled
		if len(f) == 4 && f[3] == "0" && slices.Contains(missing, f[0]) {
			return fmt.Sprintf("add cgroup_enable=%s to the kernel's command line (on a Raspberry Pi: /boot/firmware/cmdline.txt) and boot again", f[0])
		}
	}
	return ""
}

func missing(want, have []string) []string {
	var m []string
	for _, w := range want {
		if !slices.Contains(have, w) {
			m = append(m, w)
		}
	}
	return m
}
