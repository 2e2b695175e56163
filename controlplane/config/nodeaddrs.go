// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// UseNodeIPs completes a configuration without nodeIPs: of the addresses that were
// detected it takes the families that pods have. Default ranges of a family that
// the machine lacks are dropped with it; that it lacks a family that was asked for
// is an error.
func (c *Config) UseNodeIPs(detected []netip.Addr) error {
	if len(c.NodeIPs) > 0 {
		return nil
	}
	if len(detected) == 0 {
		return errors.New("find this node's addresses: none that other nodes reach: connect it to a network, or set nodeIPs")
	}
	have := addrFamilies(detected)
	for _, f := range c.Families() {
		if slices.Contains(have, f) {
			continue
		}
		if !c.drop(f) {
			return fmt.Errorf("find this node's addresses: no %s address for podCIDRs %v: give the machine one, set nodeIPs, or remove the %s ranges from podCIDRs and serviceCIDRs",
				f, c.PodCIDRs, f)
		}
	}
	for _, f := range c.Families() {
		i := slices.IndexFunc(detected, func(a netip.Addr) bool { return FamilyOf(a) == f })
		c.NodeIPs = append(c.NodeIPs, detected[i])
	}
	if err := strict.Err(c.Validate()); err != nil {
		return fmt.Errorf("use this node's addresses: %w", err)
	}
	return nil
}

// drop removes a family where all that has it is a default, and another is left.
func (c *Config) drop(f Family) bool {
	isDefault := func(cidrs, defaults []netip.Prefix) bool {
		return len(cidrs) > 1 && !slices.ContainsFunc(ofFamilies(cidrs, []Family{f}),
			func(p netip.Prefix) bool { return !slices.Contains(defaults, p) })
	}
	if !isDefault(c.PodCIDRs, DefaultPodCIDRs()) || !isDefault(c.ServiceCIDRs, DefaultServiceCIDRs()) {
		return false
	}
	other := func(p netip.Prefix) bool { return FamilyOf(p.Addr()) == f }
	c.PodCIDRs = slices.DeleteFunc(slices.Clone(c.PodCIDRs), other)
	c.ServiceCIDRs = slices.DeleteFunc(slices.Clone(c.ServiceCIDRs), other)
	c.DNS.Addresses = slices.DeleteFunc(slices.Clone(c.DNS.Addresses), func(a netip.Addr) bool { return FamilyOf(a) == f })
	return true
}

// NodeAddrs finds the addresses of this machine that others reach it by, at most
// one a family, IPv4 first: those that packets along the default routes have as
// their source. A machine without a default route of a family has the first
// global address of the other family's device or, without any, of the first device
// that has one. None is no error.
func NodeAddrs() ([]netip.Addr, error) {
	devices, err := upDevices()
	if err != nil {
		return nil, fmt.Errorf("find this node's addresses: %w", err)
	}
	v4 := sourceOf("udp4", netip.MustParseAddrPort("192.0.2.1:9"))
	v6 := sourceOf("udp6", netip.MustParseAddrPort("[2001:db8::1]:9"))
	return nodeAddrs(devices, v4, v6), nil
}

// device is a network device that is up, with its addresses.
type device struct {
	name  string
	addrs []netip.Addr
}

// nodeAddrs chooses from what there is; v4 and v6 may be the zero value.
func nodeAddrs(devices []device, v4, v6 netip.Addr) []netip.Addr {
	has := func(a netip.Addr) func(device) bool {
		return func(d device) bool { return slices.Contains(d.addrs, a) }
	}
	var out []netip.Addr
	for _, f := range []struct {
		found, other netip.Addr
		family       Family
	}{{v4, v6, IPv4}, {v6, v4, IPv6}} {
		if !global(f.found) {
			among := devices
			if i := slices.IndexFunc(devices, has(f.other)); i >= 0 {
				among = devices[i : i+1]
			}
			f.found = firstOf(among, f.family)
		}
		if f.found.IsValid() {
			out = append(out, f.found)
		}
	}
	return out
}

func firstOf(devices []device, f Family) netip.Addr {
	for _, d := range devices {
		for _, a := range d.addrs {
			if global(a) && FamilyOf(a) == f {
				return a
			}
		}
	}
	return netip.Addr{}
}

// global says whether other nodes may reach the address. Private ones they may.
func global(a netip.Addr) bool { return a.IsValid() && a.IsGlobalUnicast() }

func upDevices() ([]device, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []device
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		d := device{name: i.Name}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				d.addrs = append(d.addrs, p.Addr().Unmap())
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// sourceOf is the source address of packets to an address, and the zero value where
// there is no route to it. A UDP socket that is connected sends nothing.
func sourceOf(network string, to netip.AddrPort) netip.Addr {
	dialer := net.Dialer{Control: func(_, _ string, conn syscall.RawConn) error {
		return conn.Control(func(fd uintptr) {
			// A temporary address (RFC 8981) would be another one tomorrow. Where the
			// option is unknown, as for IPv4, so are such addresses.
			const preferPublic = 0x2 // IPV6_PREFER_SRC_PUBLIC, RFC 5014
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, preferPublic)
		})
	}}
	conn, err := dialer.Dial(network, to.String())
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return local.AddrPort().Addr().Unmap().WithZone("")
}
