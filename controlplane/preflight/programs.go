// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"fmt"
	"strings"
)

// programs checks our own. Each takes part in every pod's life, so one that is
// missing is not left for later.
func (p *probe) programs(context.Context) []Finding {
	if len(p.Programs) == 0 {
		return nil
	}
	var all []Finding
	for _, path := range p.Programs {
		if err := p.isExecutable(path); err != nil {
			all = append(all, fail("unpack the whole release into one folder", "%v", err)...)
		}
	}
	if len(all) == 0 {
		return ok("all %d are there", len(p.Programs))
	}
	return all
}

// The oldest runc that speaks OCI 1.0.2 and cgroup v2 without surprises.
const minRuncMajor, minRuncMinor = 1, 1

func (p *probe) runc(ctx context.Context) []Finding {
	remedy := fmt.Sprintf("install runc %d.%d or later from your distribution (package runc)", minRuncMajor, minRuncMinor)
	path := p.Runc
	if path == "" {
		var err error
		if path, err = p.findRunc(); err != nil {
			return fail(remedy, "no runc: no container can be started")
		}
	}
	text, err := p.runcVersion(ctx, path)
	if err != nil {
		return fail(remedy, "run %s --version: %v", path, err)
	}
	first, _, _ := strings.Cut(text, "\n")
	version, _ := strings.CutPrefix(strings.TrimSpace(first), "runc version ")
	major, minor, found := parseRelease(version)
	switch {
	case !found:
		return warn(remedy, "%s does not tell its version: %q", path, first)
	case major < minRuncMajor || major == minRuncMajor && minor < minRuncMinor:
		return fail(remedy, "%s is version %s, which is too old", path, version)
	case !strings.Contains(text, "libseccomp:"):
		return warn("install a runc that is built with seccomp", "%s %s is built without seccomp: pods that ask for a seccomp profile do not start", path, version)
	}
	return ok("%s %s", path, version)
}
