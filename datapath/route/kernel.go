// SPDX-License-Identifier: Apache-2.0

package route

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

// Protocol marks our routes, as `ip route show proto 119` shows them. It is the
// letter w, in the kernel's range for routing daemons (5 to 255), and none of
// the numbers that iproute2's rt_protos or FRR (186 to 198) give a name.
const Protocol netlink.RouteProtocol = 'w'

// ErrOccupied says that somebody else's route has the place of one of ours.
var ErrOccupied = errors.New("another route has that prefix and metric")

// families are those of netlink, in the order in which things are done.
var families = []int{netlink.FAMILY_V4, netlink.FAMILY_V6}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// ours lists the routes of our protocol in the main table.
func ours() ([]netlink.Route, error) {
	var list []netlink.Route
	for _, family := range families {
		routes, err := nl.RouteListFiltered(family,
			&netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: Protocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, err
		}
		list = append(list, routes...)
	}
	return list, nil
}

// addRoute adds a route of ours, or puts it in the place of one of ours, and
// says whether that changed anything. A route of somebody else stays.
func addRoute(r *netlink.Route) (changed bool, err error) {
	// The usual case needs no look at the table, which may be long.
	err = netlink.RouteAdd(r)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("add route %s: %w", describe(r), err)
	}
	present, err := nl.RouteListFiltered(familyOf(destination(r).Addr()),
		&netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return false, fmt.Errorf("add route %s: %w", describe(r), err)
	}
	var foreign *netlink.Route
	for i := range present {
		switch p := &present[i]; {
		case !samePlace(p, r):
		case sameRoute(p, r):
			return false, nil
		case p.Protocol != Protocol:
			foreign = p
		}
	}
	if foreign != nil {
		return false, fmt.Errorf("add route %s: %w: %s", describe(r), ErrOccupied, describe(foreign))
	}
	if err := netlink.RouteReplace(r); err != nil {
		return false, fmt.Errorf("replace route %s: %w", describe(r), err)
	}
	return true, nil
}

// deleteRoute deletes a route of ours: the kernel compares the protocol, too.
// Deleting what is absent succeeds.
func deleteRoute(r *netlink.Route) error {
	if err := netlink.RouteDel(r); err != nil && !isAbsent(err) {
		return fmt.Errorf("delete route %s: %w", describe(r), err)
	}
	return nil
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

// samePlace says whether the kernel takes two routes of the main table for the
// same, in that one replaces the other.
func samePlace(a, b *netlink.Route) bool {
	return destination(a) == destination(b) && a.Tos == b.Tos && metric(a) == metric(b)
}

// metric is a route's priority. For IPv6, the kernel turns 0 into 1024.
func metric(r *netlink.Route) int {
	if r.Priority == 0 && !destination(r).Addr().Is4() {
		return 1024
	}
	return r.Priority
}

// sameRoute says whether a route found is the route of ours that is wanted.
func sameRoute(found, want *netlink.Route) bool {
	return samePlace(found, want) && found.Protocol == want.Protocol && found.Type == want.Type &&
		(want.LinkIndex == 0 || found.LinkIndex == want.LinkIndex) && found.Gw == nil && len(found.MultiPath) == 0
}

// destination is where a route leads; netlink has nil for some default routes.
func destination(r *netlink.Route) netip.Prefix {
	if r.Dst == nil {
		if r.Family == netlink.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	ones, bits := r.Dst.Mask.Size()
	addr, _ := netip.AddrFromSlice(r.Dst.IP)
	if bits == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

var routeTypes = map[int]string{
	unix.RTN_LOCAL: "local ", unix.RTN_BROADCAST: "broadcast ", unix.RTN_ANYCAST: "anycast ",
	unix.RTN_MULTICAST: "multicast ", unix.RTN_BLACKHOLE: "blackhole ", unix.RTN_UNREACHABLE: "unreachable ",
	unix.RTN_PROHIBIT: "prohibit ", unix.RTN_THROW: "throw ",
}

// describe writes a route as `ip route` does.
func describe(r *netlink.Route) string {
	var b strings.Builder
	b.WriteString(routeTypes[r.Type])
	dst := destination(r)
	switch {
	case dst.Bits() == 0:
		b.WriteString("default")
	case dst.IsSingleIP():
		b.WriteString(dst.Addr().String())
	default:
		b.WriteString(dst.String())
	}
	if r.Gw != nil {
		fmt.Fprintf(&b, " via %s", r.Gw)
	}
	if r.LinkIndex != 0 {
		fmt.Fprintf(&b, " dev %s", deviceName(r.LinkIndex))
	}
	fmt.Fprintf(&b, " proto %s", r.Protocol)
	if r.Priority != 0 {
		fmt.Fprintf(&b, " metric %d", r.Priority)
	}
	return b.String()
}

// deviceName is for messages only.
func deviceName(index int) string {
	if link, err := netlink.LinkByIndex(index); err == nil {
		return link.Attrs().Name
	}
	return fmt.Sprintf("if%d", index)
}
