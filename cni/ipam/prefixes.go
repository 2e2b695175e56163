// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
)

// Validate checks a node's pod CIDRs: one, or two of different families, each
// with at least one address to give out. Errors are ErrPrefix and say what to
// write instead.
func Validate(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return fmt.Errorf("%w: none given: the node needs one, or one per address family", ErrPrefix)
	}
	seen := map[bool]netip.Prefix{}
	for _, p := range prefixes {
		if err := validate(p); err != nil {
			return err
		}
		is4 := p.Addr().Is4()
		if other, ok := seen[is4]; ok {
			return prefixError(p, "%s is of the same address family: give one per family", other)
		}
		seen[is4] = p
	}
	return nil
}

func validate(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case !p.IsValid():
		return prefixError(p, "not a prefix: write one like 10.1.2.0/24")
	case a.Is4In6():
		return prefixError(p, "an IPv4 prefix in IPv6 notation: write it as IPv4")
	case p != p.Masked():
		return prefixError(p, "has bits set behind the prefix length: write %s", p.Masked())
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return prefixError(p, "not a range that pods can have addresses in")
	case a.Is4() && p.Bits() > 30:
		return prefixError(p, "too small, it has no address for a pod: use /30 or larger (/24 is usual)")
	case a.Is6() && p.Bits() > 126:
		return prefixError(p, "too small, it has no address for a pod: use /126 or larger (/64 is usual)")
	}
	return nil
}

// bounds gives the first and last address that pods may have.
//
// Left out are the network address and IPv4's broadcast address, IPv6's
// subnet-router anycast address (RFC 4291, 2.6.1), which routers on the way
// answer to, and the first host address of either family: by convention it is
// the node's own, and operators, bridge plugins and fabrics that route the
// prefix expect to find a gateway there, never a pod.
func bounds(p netip.Prefix) (first, last netip.Addr) {
	first = p.Addr().Next().Next()
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	if last.Is4() {
		last = last.Prev()
	}
	return first, last
}
