// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/internal/nl"
)

// devicePrefix starts the name of each lab's device on the machine: with the longest
// name of a lab, 12 of the 15 characters that the kernel allows.
const devicePrefix = "wgl-"

// machineDevice is the machine's end of a lab's link. Everything that a lab changes
// in the machine's network is this device and what goes with it.
func machineDevice(name string) string { return devicePrefix + name }

// MachineDevice is the name of the machine's device, with Topology.Machine.
func (l *Lab) MachineDevice() string { return machineDevice(l.Name) }

// MachineAddrs returns the machine's addresses on its link to the router.
func (l *Lab) MachineAddrs() []netip.Addr {
	seg := machineSegment()
	return []netip.Addr{nth(seg.net4, machineHost), nth(seg.net6, machineHost)}
}

// Prefixes returns what the machine has routes to: the racks, and the ranges of pods.
func (l *Lab) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for rack := range l.Racks {
		seg := rackSegment(rack)
		all = append(all, seg.net4, seg.net6)
	}
	return append(all, ClusterCIDRs()...)
}

// MachinePrefixes are those of the link itself.
func MachinePrefixes() []netip.Prefix {
	seg := machineSegment()
	return []netip.Prefix{seg.net4, seg.net6}
}

// machinePrefixes are those that the machine's network must not have in use.
func (l *Lab) machinePrefixes() []netip.Prefix { return append(MachinePrefixes(), l.Prefixes()...) }

// JoinMachine makes the machine's link anew if somebody has taken it away or changed
// it since Up. "The machine" is the network namespace of the caller.
func (l *Lab) JoinMachine(ctx context.Context) error {
	if !l.Machine {
		return fmt.Errorf("join lab %s to the machine: it was made without a link (waggle-lab up --machine)", l.Name)
	}
	unlock, err := lockLab(ctx, l.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if l.routesLead() == nil && dialRouters(machineSegment()) == nil {
		return nil
	}
	if err = removeMachineLink(l.Name); err == nil {
		err = l.joinMachine()
	}
	if err == nil {
		err = l.awaitMachine(ctx)
	}
	if err != nil {
		return fmt.Errorf("join lab %s to the machine: %w", l.Name, err)
	}
	return nil
}

// joinMachine makes the veth pair between the machine and the router, and the
// machine's routes. Other labs do the same one after another.
func (l *Lab) joinMachine() error {
	return withNetNSRoot(func() error {
		if err := l.checkCollisions(); err != nil {
			return err
		}
		if err := writeUdevRules(udevRulesDir, l.MachineDevice()); err != nil {
			return err
		}
		machine, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("open the machine's network namespace: %w", err)
		}
		defer machine.Close()
		if err := l.router.DoNet(func() error { return l.plugInMachine(machine) }); err != nil {
			return err
		}
		return l.configureMachine()
	})
}

// plugInMachine runs inside the router. The machine's end is born in place, with an
// address that was set: udev gives none to such a device, and does not rename it.
func (l *Lab) plugInMachine(machine *os.File) error {
	seg := machineSegment()
	veth := netlink.NewVeth(l.linkAttrs(seg.device, seg.routerHardware))
	veth.PeerName, veth.PeerMTU = l.MachineDevice(), uint32(l.MTU)
	veth.PeerHardwareAddr = machineHardware()
	veth.PeerNamespace = netlink.NsFd(machine.Fd())
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", veth.PeerName, err)
	}
	return configure(veth, seg.router4, seg.router6)
}

// machineSysctls are set for our own device, and are whatever the machine likes for
// all others. It learns no addresses and no routes by itself, and is no way from the
// lab into the networks of a machine that forwards.
var machineSysctls = []struct{ key, value string }{
	{"ipv6/conf/%s/disable_ipv6", "0"},
	{"ipv6/conf/%s/addr_gen_mode", "1"}, // none: no address of the kernel's own
	{"ipv6/conf/%s/accept_ra", "0"},
	{"ipv6/conf/%s/autoconf", "0"},
	{"ipv6/conf/%s/accept_redirects", "0"},
	{"ipv6/conf/%s/forwarding", "0"},
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/forwarding", "0"},
}

func (l *Lab) configureMachine() error {
	name, seg := l.MachineDevice(), machineSegment()
	for _, s := range machineSysctls {
		path := filepath.Join("/proc/sys/net", fmt.Sprintf(s.key, name))
		if err := os.WriteFile(path, []byte(s.value), 0); err != nil {
			return fmt.Errorf("set sysctl of our device: %w", err)
		}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	addrs := l.MachineAddrs()
	// Each IPv6 device needs a link-local address, and the kernel makes none here.
	if err := configure(link, append(addrs, nth(netip.MustParsePrefix("fe80::/64"), machineHost))...); err != nil {
		return err
	}
	for _, to := range l.Prefixes() {
		via, src := seg.router4, addrs[0]
		if to.Addr().Is6() {
			via, src = seg.router6, addrs[1]
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Gw: via.AsSlice(), Src: src.AsSlice()}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("add route %s dev %s: %w", to, name, err)
		}
	}
	return l.routesLead()
}

// routesLead asks the kernel which way it takes: where rules of policy routing come
// first, a route in the main table says nothing.
func (l *Lab) routesLead() error {
	link, err := netlink.LinkByName(l.MachineDevice())
	if err != nil {
		return fmt.Errorf("find %s: %w", l.MachineDevice(), err)
	}
	for _, to := range l.Prefixes() {
		routes, err := netlink.RouteGet(nth(to, firstNode).AsSlice())
		if err != nil {
			return fmt.Errorf("look up the route to %s: %w", to, err)
		}
		other := slices.IndexFunc(routes, func(r netlink.Route) bool { return r.LinkIndex != link.Attrs().Index })
		if other < 0 {
			continue
		}
		table, device := routes[other].Table, deviceName(routes[other].LinkIndex)
		return fmt.Errorf("route %s: the machine sends it to device %s by table %d, whose rule comes before the main table's (ip rule), as VPNs make them: "+
			"while the lab is up, end what uses %s", to, device, table, device)
	}
	return nil
}

func deviceName(index int) string {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("number %d", index)
	}
	return link.Attrs().Name
}

// awaitMachine waits until the router answers the machine in both families.
func (l *Lab) awaitMachine(ctx context.Context) error {
	err := awaitRouters(ctx, machineSegment(), func(fn func() error) error { return fn() })
	if err != nil {
		return fmt.Errorf("%w: does a firewall of the machine drop what goes out by %s?", err, l.MachineDevice())
	}
	return nil
}

// StartOutside starts a program in the machine's own network and files that ends with
// the lab: it is in the router's cgroup, and among the router's processes.
func (l *Lab) StartOutside(ctx context.Context, name string, argv ...string) (*Process, error) {
	if len(argv) == 0 {
		return nil, fmt.Errorf("start %s: no program given", name)
	}
	return l.router.start(ctx, name, l.router.processCgroup(), argv)
}

// removeMachineLink removes the device that belongs to a lab, and with it addresses
// and routes. The router's namespace would take it along, but not at once.
func removeMachineLink(name string) error {
	device := machineDevice(name)
	link, err := netlink.LinkByName(device)
	if err == nil && isMachineLink(link) {
		err = netlink.LinkDel(link)
	}
	if err != nil && !nl.IsNotFound(err) {
		return fmt.Errorf("remove %s: %w", device, err)
	}
	if err := os.Remove(udevRulesFile(udevRulesDir, device)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove udev's rules for %s: %w", device, err)
	}
	return nil
}

// isMachineLink tells a lab's device from one that only has such a name.
func isMachineLink(link netlink.Link) bool {
	return link.Type() == "veth" && strings.HasPrefix(link.Attrs().Name, devicePrefix) &&
		slices.Equal(link.Attrs().HardwareAddr, machineHardware())
}
