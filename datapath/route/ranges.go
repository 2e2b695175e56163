// SPDX-License-Identifier: Apache-2.0

package route

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// addrRange is a range of addresses, both ends included.
type addrRange struct{ from, to netip.Addr }

// ranges returns the prefixes of one family as the fewest ranges, in order:
// nftables refuses intervals that overlap.
func ranges(prefixes []netip.Prefix, v4 bool) []addrRange {
	var list []addrRange
	for _, p := range prefixes {
		if p.IsValid() && p.Addr().Is4() == v4 {
			list = append(list, addrRange{p.Masked().Addr(), last(p)})
		}
	}
	slices.SortFunc(list, func(a, b addrRange) int {
		return cmp.Or(a.from.Compare(b.from), a.to.Compare(b.to))
	})
	var merged []addrRange
	for _, r := range list {
		if n := len(merged); n > 0 {
			// Next is the zero Addr, smaller than any, after the family's last.
			if end := &merged[n-1].to; r.from.Compare(*end) <= 0 || r.from == end.Next() {
				if end.Less(r.to) {
					*end = r.to
				}
				continue
			}
		}
		merged = append(merged, r)
	}
	return merged
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// intervals writes ranges the way nftables keeps them: an element where one
// begins, and an end marker after its last address, none for the end of all.
func intervals(list []addrRange) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, r := range list {
		elements = append(elements, nftables.SetElement{Key: r.from.AsSlice()})
		if next := r.to.Next(); next.IsValid() {
			elements = append(elements, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return elements
}
