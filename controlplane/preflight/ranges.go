// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ours are names of devices that belong to pods: waggle's, and those of the
// reference plugins. What is routed to them is what the ranges are for.
var ours = []string{"wag*", "cni*", "veth*", "lo"}

// used is a range that the machine uses already.
type used struct {
	prefix  netip.Prefix
	device  string
	gateway bool // reached through a router, not on the device's own link
}

// ranges compares the cluster's with those of the machine: a pod with an address
// of the local network, docker's bridge or a VPN hides what has it.
func (p *probe) ranges(context.Context) []Finding {
	if len(p.CIDRs) == 0 {
		return nil
	}
	taken, err := p.usedRanges()
	if err != nil {
		return warn("compare the ranges with `ip address` and `ip route` yourself", "list the machine's addresses: %v", err)
	}
	var all []Finding
	for _, c := range p.CIDRs {
		for _, a := range p.Addresses {
			if c.Prefix.Contains(a) {
				all = append(all, fail(moveRange(c), "%s %s contains the node's own address %s", c.Key, c.Prefix, a)...)
			}
		}
		for _, u := range taken {
			if u.gateway && p.OwnDataplane && p.Running {
				continue // waggled's own, to other nodes' pods
			}
			all = append(all, overlap(c, u)...)
		}
	}
	if len(all) == 0 {
		return ok("nothing on the machine uses them")
	}
	return all
}

// overlap is what it means that a range is used. Inside of ours, it cannot be
// reached any more; through a router it may be that of another node's pods. Where
// it is wider, only the part that is ours is hidden, as one may want.
func overlap(c CIDR, u used) []Finding {
	switch {
	case !c.Prefix.Overlaps(u.prefix):
		return nil
	case u.prefix.Bits() < c.Prefix.Bits():
		return warn(moveRange(c)+", unless it is set aside for the cluster", "%s %s is a part of %s on device %s: what has these addresses there cannot be reached", c.Key, c.Prefix, u.prefix, u.device)
	case u.gateway:
		return warn(moveRange(c)+", unless it is another node's range", "%s %s overlaps the route to %s by device %s", c.Key, c.Prefix, u.prefix, u.device)
	}
	return fail(moveRange(c), "%s %s overlaps %s on device %s", c.Key, c.Prefix, u.prefix, u.device)
}

func moveRange(c CIDR) string { return fmt.Sprintf("set %s to a range that is free", c.Key) }

func (p *probe) usedRanges() ([]used, error) {
	addrs, err := p.addresses()
	if err != nil {
		return nil, err
	}
	var all []used
	for _, a := range addrs {
		all = append(all, used{prefix: a.prefix.Masked(), device: a.device})
	}
	v4, _ := p.read("proc/net/route")
	v6, _ := p.read("proc/net/ipv6_route")
	all = append(append(all, parseRoutes4(v4)...), parseRoutes6(v6)...)
	all = slices.DeleteFunc(all, func(u used) bool {
		// A VPN's pair of half default routes is a default route.
		return u.prefix.Bits() <= 1 || slices.ContainsFunc(ours, func(pattern string) bool {
			match, _ := path.Match(pattern, u.device)
			return match
		})
	})
	slices.SortFunc(all, func(a, b used) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	// A device's address and the route to its network say the same.
	return slices.Compact(all), nil
}

// Flags of routes, of the kernel's include/uapi/linux/route.h.
const rtfGateway, rtfReject = 0x2, 0x200

// parseRoutes4 reads /proc/net/route, whose addresses are in the machine's byte
// order:
//
//	Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
func parseRoutes4(text string) []used {
	var all []used
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		dst, err1 := strconv.ParseUint(f[1], 16, 32)
		flags, err2 := strconv.ParseUint(f[3], 16, 32)
		mask, err3 := strconv.ParseUint(f[7], 16, 32)
		if err1 != nil || err2 != nil || err3 != nil || flags&rtfReject != 0 {
			continue
		}
		var addr, m [4]byte
		binary.NativeEndian.PutUint32(addr[:], uint32(dst))
		binary.NativeEndian.PutUint32(m[:], uint32(mask))
		bits := 0
		for inv := ^binary.BigEndian.Uint32(m[:]); bits < 32 && inv>>(31-bits)&1 == 0; {
			bits++
		}
		all = append(all, used{netip.PrefixFrom(netip.AddrFrom4(addr), bits).Masked(), f[0], flags&rtfGateway != 0})
	}
	return all
}

// parseRoutes6 reads /proc/net/ipv6_route:
//
//	destination length source length next-hop metric refcnt use flags device
func parseRoutes6(text string) []used {
	var all []used
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		raw, err1 := hex.DecodeString(f[0])
		bits, err2 := strconv.ParseUint(f[1], 16, 8)
		flags, err3 := strconv.ParseUint(f[8], 16, 32)
		if err1 != nil || err2 != nil || err3 != nil || len(raw) != 16 || bits > 128 || flags&rtfReject != 0 {
			continue
		}
		prefix := netip.PrefixFrom(netip.AddrFrom16([16]byte(raw)), int(bits)).Masked()
		all = append(all, used{prefix, f[9], flags&rtfGateway != 0})
	}
	return all
}
