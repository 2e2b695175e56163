// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
)

// Host is a node, the router or the client of a lab.
type Host struct {
	Name   string // also its host name
	Kind   Kind
	Rack   int // -1 for the router and the client
	Number int // nodes: from 1, over all racks; others: 0

	// IPv4 and IPv6 are the addresses of eth0; of the router, those in rack 0.
	IPv4, IPv6 netip.Addr
	MAC        net.HardwareAddr

	// PodCIDRs holds a node's IPv4 and IPv6 pod ranges; the router has routes to
	// them. Nil for other hosts.
	PodCIDRs []netip.Prefix

	lab     *Lab
	segment segment // what eth0 is plugged into; zero for the router
}

// Lab returns the lab that the host belongs to.
func (h *Host) Lab() *Lab { return h.lab }

// Gateways returns the router's addresses on the host's link.
func (h *Host) Gateways() []netip.Addr {
	if h.Kind == KindRouter {
		return nil
	}
	return []netip.Addr{h.segment.router4, h.segment.router6}
}

// Addrs returns IPv4 and IPv6.
func (h *Host) Addrs() []netip.Addr { return []netip.Addr{h.IPv4, h.IPv6} }

// Dir is the host's folder on the machine's file system; the same path leads to
// it from inside. Below it, run, var, etc and cni/net.d are what the host sees as
// /run/waggle, /var/lib/waggle, /etc/waggle and /etc/cni/net.d.
func (h *Host) Dir() string { return filepath.Join(labDir(h.lab.Name), h.Name) }

// BPFRoot is a bpffs of this host alone, at the same path inside and outside.
// Inside, /sys/fs/bpf is the same file system.
func (h *Host) BPFRoot() string { return filepath.Join(h.Dir(), "bpf") }

// NetNSPath is the file that the host's network namespace is bound to.
func (h *Host) NetNSPath() string { return filepath.Join(netnsRoot, h.lab.Name+"-"+h.Name) }

// PodNetNSDir holds the network namespaces of the host's pods; inside, it is
// also /run/netns. Mounts made there show on both sides.
func (h *Host) PodNetNSDir() string { return filepath.Join(h.Dir(), "netns") }

// CgroupRoot is the cgroup2 folder that holds the host's processes, and its
// pods' below it: where socket programs are attached.
func (h *Host) CgroupRoot() string { return filepath.Join(labCgroup(h.lab.Name), h.Name) }

// processCgroup is where the host's own processes are: a leaf, since where version 2
// hands controllers down to the pods, no process may be in an inner cgroup.
func (h *Host) processCgroup() string { return filepath.Join(h.CgroupRoot(), "host") }

func (h *Host) mntPath() string { return filepath.Join(nsDir(h.lab.Name), h.Name+".mnt") }
func (h *Host) utsPath() string { return filepath.Join(nsDir(h.lab.Name), h.Name+".uts") }

// wrap names step and host in an error: "step of host: cause".
func (h *Host) wrap(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of %s: %w", step, h.Name, err)
}

// Command returns a command that runs inside the host's network, mount and UTS
// namespaces and in its cgroup. It dies with ctx. The program is looked up
// inside, and its working folder is "/".
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return enterCommand(ctx, h.processCgroup(), h.nsenter(h.NetNSPath(), name, args))
}

// nsenter wraps a command so that it runs in the given network namespace and the
// host's other namespaces. nsenter execs: the process ID stays the same.
func (h *Host) nsenter(netns, name string, args []string) []string {
	return append([]string{"nsenter", "--net=" + netns, "--mount=" + h.mntPath(), "--uts=" + h.utsPath(), "--", name}, args...)
}

// enterCommand makes a command that joins a cgroup first. The shell does it,
// because the file descriptor that SysProcAttr.CgroupFD wants has nobody to close it
// where the caller decides when to start.
func enterCommand(ctx context.Context, cgroup string, argv []string) *exec.Cmd {
	const join = `echo $$ >"$0/cgroup.procs" && exec "$@"`
	return exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", join, cgroup}, argv...)...)
}

// Run runs a command to its end and returns its combined output. The error of a
// command that fails holds the command and the output too.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return runCommand(h.Name, h.Command(ctx, name, args...), name, args)
}

func runCommand(where string, cmd *exec.Cmd, name string, args []string) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		line := strings.Join(append([]string{name}, args...), " ")
		return string(out), fmt.Errorf("run %q on %s: %w\n%s", line, where, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
