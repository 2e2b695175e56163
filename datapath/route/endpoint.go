// SPDX-License-Identifier: Apache-2.0

package route

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
)

// attachment is where the node reaches a pod's address.
type attachment struct {
	link int // index of the pod's device on the node
	mac  net.HardwareAddr
}

// place is what the kernel knows a neighbour entry by.
type place struct {
	link int
	addr netip.Addr
}

// AddEndpoint routes the addresses of a pod to its device, which is up, and
// tells the kernel its MAC address, so that neither ARP nor ND is needed.
// Adding again changes what differs; an address that was another endpoint's
// becomes this one's. A host route of somebody else is an error that names it.
func (m *Manager) AddEndpoint(link int, addrs []netip.Addr, podMAC net.HardwareAddr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := attachment{link, slices.Clone(podMAC)}
	var errs []error
	for _, addr := range addrs {
		addr = addr.Unmap()
		m.endpoints[addr] = at
		// The neighbour first: the route brings packets at once.
		err := setNeighbour(addr, at)
		if err == nil {
			_, err = addRoute(hostRoute(addr, link))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// DelEndpoint undoes AddEndpoint. Deleting what is absent succeeds, and so does
// deleting what went with its device. Addresses that another device has got
// since stay where they are.
func (m *Manager) DelEndpoint(link int, addrs []netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, addr := range addrs {
		addr = addr.Unmap()
		if m.endpoints[addr].link == link {
			delete(m.endpoints, addr)
		}
		errs = append(errs, deleteRoute(hostRoute(addr, link)), deleteNeighbour(link, addr))
	}
	return errors.Join(errs...)
}

// CheckEndpoint says what the kernel lacks of what AddEndpoint writes, in one
// error for all of it.
func (m *Manager) CheckEndpoint(link int, addrs []netip.Addr, podMAC net.HardwareAddr) error {
	routes, neighbours, err := m.readEndpoints()
	if err != nil {
		return err
	}
	var errs []error
	for _, addr := range addrs {
		addr = addr.Unmap()
		if want := hostRoute(addr, link); !containsRoute(routes[addr], want) {
			errs = append(errs, fmt.Errorf("route %s is missing", describe(want)))
		}
		if !bytes.Equal(neighbours[place{link, addr}], podMAC) {
			errs = append(errs, fmt.Errorf("neighbour %s lladdr %s dev %s nud permanent is missing", addr, podMAC, deviceName(link)))
		}
	}
	return errors.Join(errs...)
}

// syncEndpoints repairs what is missing of the endpoints that we know.
func (m *Manager) syncEndpoints(context.Context) error {
	if len(m.endpoints) == 0 {
		return nil
	}
	routes, neighbours, err := m.readEndpoints()
	if err != nil {
		return err
	}
	var errs []error
	for addr, at := range m.endpoints {
		var err error
		if !bytes.Equal(neighbours[place{at.link, addr}], at.mac) {
			m.log.Info("repairing neighbour", "address", addr, "device", deviceName(at.link))
			err = setNeighbour(addr, at)
		}
		if want := hostRoute(addr, at.link); err == nil && !containsRoute(routes[addr], want) {
			m.log.Info("repairing route", "route", describe(want))
			_, err = addRoute(want)
		}
		if errors.Is(err, unix.ENODEV) {
			delete(m.endpoints, addr)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// readEndpoints reads our routes by their address, and the permanent entries of
// the neighbour table.
func (m *Manager) readEndpoints() (map[netip.Addr][]netlink.Route, map[place]net.HardwareAddr, error) {
	list, err := ours()
	if err != nil {
		return nil, nil, err
	}
	routes := make(map[netip.Addr][]netlink.Route)
	for _, r := range list {
		if dst := destination(&r); dst.IsSingleIP() {
			routes[dst.Addr()] = append(routes[dst.Addr()], r)
		}
	}
	neighbours := make(map[place]net.HardwareAddr)
	for _, family := range families {
		list, err := nl.NeighList(0, family)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range list {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && n.State == netlink.NUD_PERMANENT {
				neighbours[place{n.LinkIndex, addr.Unmap()}] = n.HardwareAddr
			}
		}
	}
	return routes, neighbours, nil
}

func containsRoute(routes []netlink.Route, want *netlink.Route) bool {
	return slices.ContainsFunc(routes, func(r netlink.Route) bool { return sameRoute(&r, want) })
}

func hostRoute(addr netip.Addr, link int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(netip.PrefixFrom(addr, addr.BitLen())), LinkIndex: link, Scope: netlink.SCOPE_LINK,
		Type: unix.RTN_UNICAST, Table: unix.RT_TABLE_MAIN, Protocol: Protocol,
	}
}

func setNeighbour(addr netip.Addr, at attachment) error {
	n := &netlink.Neigh{LinkIndex: at.link, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: at.mac}
	if err := netlink.NeighSet(n); err != nil {
		return fmt.Errorf("set neighbour %s lladdr %s dev %s: %w", addr, at.mac, deviceName(at.link), err)
	}
	return nil
}

func deleteNeighbour(link int, addr netip.Addr) error {
	n := &netlink.Neigh{LinkIndex: link, IP: addr.AsSlice()}
	if err := netlink.NeighDel(n); err != nil && !isAbsent(err) {
		return fmt.Errorf("delete neighbour %s dev %s: %w", addr, deviceName(link), err)
	}
	return nil
}
