// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The oldest Linux whose verifier takes our programs.
const minMajor, minMinor = 6, 1

func (p *probe) kernel(context.Context) []Finding {
	release, _ := p.read("proc/sys/kernel/osrelease")
	major, minor, found := parseRelease(release)
	var all []Finding
	switch {
	case !found:
		all = fail("mount proc on /proc", "the kernel's version cannot be read from /proc/sys/kernel/osrelease: %q", release)
	case major < minMajor || major == minMajor && minor < minMinor:
		all = fail(fmt.Sprintf("install a kernel of at least Linux %d.%d and boot it", minMajor, minMinor),
			"Linux %s is too old", release)
	default:
		all = ok("Linux %s on %s", release, p.arch)
	}
	if p.arch != "amd64" && p.arch != "arm64" {
		all = append(all, warn("use a machine with amd64 or arm64 if this matters", "nobody tests waggle on %s", p.arch)...)
	}
	return all
}

// parseRelease reads the first two numbers of uname's release, as in
// 6.1.0-26-amd64 or 6.18-rc1.
func parseRelease(s string) (major, minor int, found bool) {
	a, rest, dot := strings.Cut(s, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	major, err1 := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(rest)
	return major, minor, dot && err1 == nil && err2 == nil && major >= 0
}

// needed are capabilities that a node does not work without.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_BPF, "CAP_BPF"},
	{unix.CAP_PERFMON, "CAP_PERFMON"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
	{unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"},
	{unix.CAP_MKNOD, "CAP_MKNOD"},
}

func (p *probe) privileges(context.Context) []Finding {
	status, _ := p.read("proc/self/status")
	uids := strings.Fields(statusField(status, "Uid"))
	caps, err := strconv.ParseUint(statusField(status, "CapEff"), 16, 64)
	if len(uids) < 2 || err != nil {
		return fail("mount proc on /proc", "the privileges of this process cannot be read from /proc/self/status")
	}
	if uids[1] != "0" {
		return fail("run it with sudo, or as a service of the system", "user %s is not root", uids[1])
	}
	if uidMap, found := p.read("proc/self/uid_map"); found && !wholeMap(uidMap) {
		return fail("run it outside of the user namespace (rootless container, unshare -U)",
			"root is that of a user namespace only")
	}
	var missing []string
	for _, c := range needed {
		if caps>>c.bit&1 == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fail("run it where nothing drops them: no container, or a privileged one; no CapabilityBoundingSet= in the unit",
			"root without %s", strings.Join(missing, ", "))
	}
	if caps>>unix.CAP_SYS_RESOURCE&1 == 0 {
		return warn("give it CAP_SYS_RESOURCE if the kernel should spare the node's processes when memory is short",
			"root without CAP_SYS_RESOURCE: no OOM score can be lowered, so memory that is short may cost a node's process before a pod")
	}
	return ok("root with all capabilities that are needed")
}

func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if v, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// wholeMap says whether a uid_map is that of the initial user namespace.
func wholeMap(s string) bool {
	f := strings.Fields(s)
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

func (p *probe) features(context.Context) []Finding {
	var all []Finding
	var missing []string
	for _, f := range []struct{ ns, option string }{
		{"net", "CONFIG_NET_NS"}, {"pid", "CONFIG_PID_NS"}, {"ipc", "CONFIG_IPC_NS"},
		{"uts", "CONFIG_UTS_NS"}, {"mnt", "CONFIG_NAMESPACES"}, {"cgroup", "CONFIG_CGROUPS"},
	} {
		if !p.lexists("proc/self/ns", f.ns) {
			missing = append(missing, fmt.Sprintf("%s namespaces (%s)", f.ns, f.option))
		}
	}
	if !p.exists("proc/sys/kernel/unprivileged_bpf_disabled") {
		missing = append(missing, "the bpf system call (CONFIG_BPF_SYSCALL)")
	}
	if len(missing) > 0 {
		all = append(all, fail("use a distribution's kernel, or build these in", "the kernel lacks %s", strings.Join(missing, ", "))...)
	}
	if !p.exists("proc/sys/kernel/seccomp/actions_avail") {
		all = append(all, warn("use a kernel with CONFIG_SECCOMP_FILTER", "the kernel lacks seccomp: no pod's system calls are filtered")...)
	}
	if len(p.hasIPv6CIDR()) > 0 && !p.exists("proc/net/if_inet6") {
		all = append(all, fail("boot without ipv6.disable=1, or remove the IPv6 ranges from "+strings.Join(p.hasIPv6CIDR(), " and "),
			"the kernel has no IPv6")...)
	}
	if len(all) == 0 {
		all = ok("namespaces, seccomp and bpf")
	}
	return all
}

// hasIPv6CIDR returns the keys of those ranges that are IPv6.
func (p *probe) hasIPv6CIDR() []string {
	var keys []string
	for _, c := range p.CIDRs {
		if c.Prefix.Addr().Is6() {
			keys = append(keys, c.Key)
		}
	}
	return keys
}
