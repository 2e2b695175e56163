// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// buildRouter makes the router's bridges, one a rack. Like everything in this
// file it runs on a thread inside the host's network namespace.
func (l *Lab) buildRouter() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	for rack := range l.Racks {
		seg := rackSegment(rack)
		snooping := false // nothing queries here, and ND depends on multicast
		bridge := &netlink.Bridge{LinkAttrs: l.linkAttrs(seg.device, seg.routerHardware), MulticastSnooping: &snooping}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add bridge %s: %w", seg.device, err)
		}
		if err := configure(bridge, seg.router4, seg.router6); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) linkAttrs(name string, mac net.HardwareAddr) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, l.MTU, mac
	return attrs
}

// plugIn runs inside the router: it makes the veth pair to host h, whose end is
// born inside h as eth0, and routes to the pods behind it.
func (l *Lab) plugIn(h *Host) error {
	peer, err := os.Open(h.NetNSPath())
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer peer.Close()
	attrs := l.linkAttrs(h.Name, hardwareAddr(macPort, h.Rack, h.Number))
	if h.Kind == KindClient {
		attrs = l.linkAttrs(h.segment.device, h.segment.routerHardware)
	} else {
		bridge, err := netlink.LinkByName(h.segment.device)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", h.segment.device, err)
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = "eth0", h.MAC, uint32(l.MTU)
	veth.PeerNamespace = netlink.NsFd(peer.Fd())
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", attrs.Name, err)
	}
	if h.Kind == KindClient {
		return configure(veth, h.segment.router4, h.segment.router6)
	}
	return configure(veth)
}

// routePods runs inside the router: the fabric knows where pods live, as if a
// routing protocol had told it.
func routePods(h *Host, ranges []netip.Prefix) error {
	for _, cidr := range ranges {
		via := h.IPv4
		if cidr.Addr().Is6() {
			via = h.IPv6
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(cidr), Gw: via.AsSlice()}); err != nil {
			return fmt.Errorf("add route %s via %s: %w", cidr, via, err)
		}
	}
	return nil
}

// RoutePods gives the router routes to ranges of pods that somebody else than the lab's
// plan has given to the host, such as Kubernetes.
func (h *Host) RoutePods(ranges ...netip.Prefix) error {
	return h.wrap("route pods", h.lab.router.DoNet(func() error { return routePods(h, ranges) }))
}

// configureHost runs inside a node or the client.
func (h *Host) configureHost() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := configure(eth0, h.IPv4, h.IPv6); err != nil {
		return err
	}
	for _, gateway := range h.Gateways() {
		everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if gateway.Is4() {
			everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		if err := addRoute(everywhere, gateway); err != nil {
			return err
		}
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// configure sets a link up and gives it addresses, usable at once.
func configure(link netlink.Link, addrs ...netip.Addr) error {
	name := link.Attrs().Name
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	for _, addr := range addrs {
		bits := 64
		if addr.Is4() {
			bits = 24
		}
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, bits)), Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %w", addr, name, err)
		}
	}
	return nil
}

func addRoute(to netip.Prefix, via netip.Addr) error {
	route := &netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add route %s via %s: %w", to, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
