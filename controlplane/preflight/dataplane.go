// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// dataplane is what waggled needs of the machine: two file systems that it does not
// mount itself, and a kernel that takes its programs.
func (p *probe) dataplane(ctx context.Context) []Finding {
	if !p.OwnDataplane {
		return nil
	}
	mounts, err := p.mounts("bpf", "cgroup2")
	if err != nil {
		return fail("mount proc on /proc", "mounts cannot be read: %v", err)
	}
	var all []Finding
	if !slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return m.FSType == "bpf" && within(p.BPFRoot, m.Mountpoint) }) {
		all = append(all, fail(fmt.Sprintf("mkdir -p %[1]s && mount -t bpf bpf %[1]s, and the line `bpf %[1]s bpf defaults 0 0` in /etc/fstab (systemd mounts /sys/fs/bpf by itself)", p.BPFRoot),
			"no bpffs is mounted on %s: what waggled loads would end with it", p.BPFRoot)...)
	}
	if !slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return m.FSType == "cgroup2" }) {
		const dir = cgroupDir + "/unified"
		all = append(all, fail(fmt.Sprintf("mkdir -p %s && mount -t cgroup2 none %s, beside the v1 hierarchies", dir, dir),
			"no cgroup v2 is mounted: waggled translates services' addresses there")...)
	}
	if features := p.kernelForWaggled(ctx); len(all) == 0 || Failed(features) {
		all = append(all, features...)
	}
	if len(all) == 0 {
		return ok("bpffs and cgroup v2 are mounted")
	}
	return all
}

// within says whether a path is a folder or below it.
func within(name, dir string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// kernelForWaggled has waggled try the kernel, since the code for that is as large as
// the rest of this program.
func (p *probe) kernelForWaggled(ctx context.Context) []Finding {
	i := slices.IndexFunc(p.Programs, func(program string) bool { return path.Base(program) == "waggled" })
	if i < 0 || p.isExecutable(p.Programs[i]) != nil || Failed(p.privileges(ctx)) {
		return nil // which other checks tell, and without which this would mislead
	}
	text, err := p.waggledCheck(ctx, p.Programs[i])
	missing, absent := parseFeatures(text)
	switch {
	case len(missing) > 0:
		return fail(fmt.Sprintf("boot Linux %d.%d or later, a distribution's: it has them", minMajor, minMinor),
			"the kernel lacks for waggled: %s", strings.Join(missing, "; "))
	case err != nil:
		return fail(fmt.Sprintf("run %s check and see", p.Programs[i]), "run %s check: %v", filepath.Base(p.Programs[i]), err)
	case len(absent) > 0:
		return ok("the kernel has all that waggled needs; absent: %s", strings.Join(absent, "; "))
	}
	return ok("the kernel has all that waggled needs")
}

// feature is a line of `waggled check`: name, state, what it is for.
var feature = regexp.MustCompile(`(?m)^(\S.*?) {2,}(ok|absent|MISSING) {2,}(.*\S)`)

// parseFeatures returns what the kernel lacks, and what it may lack.
func parseFeatures(text string) (missing, absent []string) {
	for _, m := range feature.FindAllStringSubmatch(text, -1) {
		line := fmt.Sprintf("%s (%s)", m[1], m[3])
		switch m[2] {
		case "MISSING":
			missing = append(missing, line)
		case "absent":
			absent = append(absent, line)
		}
	}
	return missing, absent
}
