// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
)

// ErrNoDefaultRoute says that there is no default route to find an MTU by.
var ErrNoDefaultRoute = errors.New("no default route")

// MTU returns the MTU of the network between nodes: that of the configuration,
// or else that of the default route's device. IPv4's default route decides, and
// IPv6's where there is none. Of several, the smallest MTU is the one that fits
// all; a route may limit it below that of its device (ip route ... mtu 1400).
func (m *Manager) MTU() (int, error) {
	if m.cfg.MTU > 0 {
		return m.cfg.MTU, nil
	}
	for _, family := range families {
		routes, err := nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return 0, fmt.Errorf("find MTU: %w", err)
		}
		mtu, err := smallestMTU(routes, linkMTU)
		if err != nil {
			return 0, fmt.Errorf("find MTU: %w", err)
		}
		if mtu != 0 {
			return mtu, nil
		}
	}
	return 0, fmt.Errorf("find MTU: %w in the main table: set the MTU in the configuration", ErrNoDefaultRoute)
}

// smallestMTU returns the smallest MTU of the default routes, 0 without any.
func smallestMTU(routes []netlink.Route, linkMTU func(index int) (int, error)) (int, error) {
	smallest := 0
	consider := func(mtu int) {
		if mtu > 0 && (smallest == 0 || mtu < smallest) {
			smallest = mtu
		}
	}
	for _, r := range routes {
		if destination(&r).Bits() != 0 || r.Type != unix.RTN_UNICAST {
			continue
		}
		links := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			links = append(links, hop.LinkIndex)
		}
		for _, index := range links {
			if index == 0 {
				continue // a multipath route's own
			}
			mtu, err := linkMTU(index)
			if err != nil {
				return 0, err
			}
			consider(mtu)
		}
		consider(r.MTU)
	}
	return smallest, nil
}

func linkMTU(index int) (int, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return 0, fmt.Errorf("find device %d of a default route: %w", index, err)
	}
	return link.Attrs().MTU, nil
}
