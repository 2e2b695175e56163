// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
)

// Family is an address family, by the name that Kubernetes gives it.
type Family string

// The address families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// FamilyOf is the family of a valid address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// prefixFamilies are the families of ranges, each once, in their order.
func prefixFamilies(cidrs []netip.Prefix) []Family {
	addrs := make([]netip.Addr, len(cidrs))
	for i, cidr := range cidrs {
		addrs[i] = cidr.Addr()
	}
	return addrFamilies(addrs)
}

func addrFamilies(addrs []netip.Addr) []Family {
	var out []Family
	for _, a := range addrs {
		// Mapped addresses and zero values have an error of their own.
		if a.IsValid() && !a.Is4In6() && !slices.Contains(out, FamilyOf(a)) {
			out = append(out, FamilyOf(a))
		}
	}
	return out
}

// ofFamilies are the ranges of the families, in the families' order.
func ofFamilies(cidrs []netip.Prefix, families []Family) []netip.Prefix {
	var out []netip.Prefix
	for _, f := range families {
		for _, cidr := range cidrs {
			if FamilyOf(cidr.Addr()) == f {
				out = append(out, cidr)
			}
		}
	}
	return out
}
