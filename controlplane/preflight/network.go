// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/controlplane/install"
)

func (p *probe) forwarding(context.Context) []Finding {
	if n, _ := p.readInt("proc/sys/net/ipv4/ip_forward"); n == 0 {
		return ok("off so far: what makes the pods' network turns it on")
	}
	return ok("on")
}

// networkManagers are those that think a new device is theirs: they give pods'
// devices addresses, take ours away, and remove routes that they do not know.
func (p *probe) networkManagers(context.Context) []Finding {
	const remedy = "waggle-kube install, which tells them to leave our devices alone"
	var all []Finding
	for _, m := range []struct{ process, files string }{
		{"systemd-networkd", install.NetworkdFile},
		{"NetworkManager", install.NetworkManagerFile},
	} {
		if _, found := p.running(m.process); !found || p.exists(m.files) {
			continue
		}
		all = append(all, warn(remedy, "%s runs and would manage our devices (wag*)", m.process)...)
	}
	if len(all) == 0 {
		return ok("none that would manage our devices")
	}
	return all
}

func (p *probe) resolver(context.Context) []Finding {
	text, _ := p.read("etc/resolv.conf")
	servers := nameservers(text)
	loopback := func(a netip.Addr) bool { return a.IsLoopback() }
	switch {
	case len(servers) == 0:
		return warn("add a line nameserver to /etc/resolv.conf, or set dns.upstreams", "/etc/resolv.conf names no server: pods resolve names of the cluster only")
	case !slices.ContainsFunc(servers, loopback):
		return ok("/etc/resolv.conf names %s", servers[0])
	}
	// systemd-resolved's stub is on this machine's loopback device, which pods
	// have not, and forwards to us if it is told to: a loop.
	text, _ = p.read("run/systemd/resolve/resolv.conf")
	if servers := nameservers(text); len(servers) > 0 && !slices.ContainsFunc(servers, loopback) {
		return ok("using /run/systemd/resolve/resolv.conf, which names %s", servers[0])
	}
	return warn("set dns.upstreams to servers that are not on this machine", "/etc/resolv.conf names %s, where pods find nobody", servers[0])
}

// nameservers of a resolv.conf(5).
func nameservers(text string) []netip.Addr {
	var all []netip.Addr
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// firewall cannot know whether the rules let us through: it says what must be.
func (p *probe) firewall(context.Context) []Finding {
	var names []string
	if _, found := p.running("firewalld"); found {
		names = append(names, "firewalld")
	}
	conf, _ := p.read("etc/ufw/ufw.conf")
	for line := range strings.Lines(conf) {
		if strings.EqualFold(strings.TrimSpace(line), "ENABLED=yes") {
			names = append(names, "ufw")
		}
	}
	if len(names) == 0 {
		return ok("neither firewalld nor ufw is active")
	}
	return warn(p.openPorts(), "%s is active and may drop what nodes and pods send", strings.Join(names, " and "))
}

// openPorts says what a firewall must let in.
func (p *probe) openPorts() string {
	var open []string
	for _, port := range p.Ports {
		if port.Address.IsLoopback() {
			continue
		}
		if text := fmt.Sprintf("%d/%s", port.Number, port.Protocol); !slices.Contains(open, text) {
			open = append(open, text)
		}
	}
	r := "let in "
	if len(open) > 0 {
		r += "the ports " + strings.Join(open, ", ") + " and "
	}
	r += "everything from the cluster's ranges"
	var ranges []string
	for _, c := range p.CIDRs {
		ranges = append(ranges, c.Prefix.String())
	}
	if len(ranges) > 0 {
		r += " (" + strings.Join(ranges, ", ") + ")"
	}
	return r + ", or turn it off"
}

func (p *probe) selinux(context.Context) []Finding {
	if n, _ := p.readInt("sys/fs/selinux/enforce"); n == 1 {
		return warn("setenforce 0 and SELINUX=permissive in /etc/selinux/config, or install container-selinux and label the data folder container_var_lib_t",
			"SELinux is enforcing, and the data folder has no label of containers by itself")
	}
	return ok("not enforcing")
}

// apparmor is as containerd looks at it: without the parser it does as if AppArmor
// were off.
func (p *probe) apparmor(context.Context) []Finding {
	switch on, _ := p.read("sys/module/apparmor/parameters/enabled"); {
	case on != "Y" || !p.exists("sys/kernel/security/apparmor"):
		return ok("not enabled")
	case !p.exists("sbin/apparmor_parser"):
		return warn("install it from your distribution (package apparmor), then start the server again",
			"AppArmor is enabled, but there is no /sbin/apparmor_parser: containers run without a profile, and those that ask for one do not start")
	}
	return ok("enabled, with its parser")
}
