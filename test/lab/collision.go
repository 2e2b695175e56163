// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
)

// inUse is something of the machine's network that has a range already: an address,
// or a route in any table.
type inUse struct {
	prefix  netip.Prefix // of an address: not masked
	device  string       // "" for routes without, such as unreachable ones
	address bool
	table   int // of a route
}

// checkCollisions fails if the machine's network uses one of the lab's ranges: what
// has these addresses could not be reached while the lab is up, or the lab could not.
func (l *Lab) checkCollisions() error {
	if link, err := netlink.LinkByName(l.MachineDevice()); err == nil {
		return fmt.Errorf("the machine has a device %s that no lab made: ip link del %s", l.MachineDevice(), link.Attrs().Name)
	}
	found, err := machineUses()
	if err != nil {
		return err
	}
	return errors.Join(collisions(l.machinePrefixes(), found)...)
}

// machineUses lists addresses and routes of the caller's network namespace.
func machineUses() ([]inUse, error) {
	links, err := nl.LinkList()
	if err != nil {
		return nil, err
	}
	devices := map[int]string{}
	for _, link := range links {
		devices[link.Attrs().Index] = link.Attrs().Name
	}
	addrs, err := nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var all []inUse
	for _, a := range addrs {
		if prefix, ok := toPrefix(a.IP, a.Mask); ok {
			all = append(all, inUse{prefix: prefix, device: devices[a.LinkIndex], address: true})
		}
	}
	routes, err := allRoutes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL { // what is there follows from addresses
			continue
		}
		index := r.LinkIndex
		if len(r.MultiPath) > 0 {
			index = r.MultiPath[0].LinkIndex
		}
		if prefix, ok := toPrefix(r.Dst.IP, r.Dst.Mask); ok {
			all = append(all, inUse{prefix: prefix, device: devices[index], table: r.Table})
		}
	}
	return all, nil
}

// allRoutes are those of all tables: VPNs have tables of their own.
func allRoutes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		all = append(all, routes...)
	}
	return all, nil
}

// collisions says which of these keep a lab with such ranges away, and what to do.
func collisions(wanted []netip.Prefix, found []inUse) []error {
	var errs []error
	said := map[string]bool{} // an address and the route to its network say the same
	for _, use := range found {
		for _, w := range wanted {
			key := use.device + " " + use.prefix.Masked().String()
			if !use.prefix.Overlaps(w) || !use.address && catchesAll(use.prefix) || said[key] {
				continue
			}
			if other, ok := strings.CutPrefix(use.device, devicePrefix); ok && validName.MatchString(other) {
				key = use.device // once for all that the other lab has
				if !said[key] {
					errs = append(errs, fmt.Errorf("lab %s is joined to the machine with the same addresses, which one lab at a time can have: waggle-lab down --name %s", other, other))
				}
			} else {
				errs = append(errs, use.collision(w))
			}
			said[key] = true
		}
	}
	return errs
}

func (use inUse) collision(with netip.Prefix) error {
	switch {
	case use.address:
		return fmt.Errorf("the machine's device %s has the address %s, within the lab's %s: while the lab is up, give it another (docker's are in /etc/docker/daemon.json), "+
			"or remove it: ip address del %s dev %s", use.device, use.prefix, with, use.prefix, use.device)
	case use.device == "":
		return fmt.Errorf("the machine's route %s overlaps the lab's %s: while the lab is up, remove it: ip route del %s table %d", use.prefix, with, use.prefix, use.table)
	}
	return fmt.Errorf("the machine's route %s dev %s (table %d) overlaps the lab's %s: while the lab is up, end the VPN or network behind %s, "+
		"or remove the route: ip route del %s dev %s table %d", use.prefix, use.device, use.table, with, use.device, use.prefix, use.device, use.table)
}

// catchesAll is whether a route is a default route, or one of the pieces that VPNs
// cut it into (of IPv6: ::/3, 2000::/4, 3000::/4, fc00::/7). More specific ones, as
// ours are, come first.
func catchesAll(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() <= 1
	}
	return p.Bits() <= 4 || p == netip.MustParsePrefix("fc00::/7")
}

func toPrefix(ip net.IP, mask net.IPMask) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	ones, _ := mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}
