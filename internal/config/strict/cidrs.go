// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// reserved are ranges that pods cannot have addresses from.
var reserved = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/3"), "multicast and reserved"},
	{netip.MustParsePrefix("::/96"), "unspecified and loopback"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// Usable says whether there is something to compare: the zero value and mapped
// addresses have an error of their own.
func Usable(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }

// WellFormed checks each prefix by CIDR.
func WellFormed(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		if err := CIDR(p.Index(i), cidr); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Unreserved checks that pods and services can have addresses from each prefix.
func Unreserved(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		for _, r := range reserved {
			if Usable(cidr) && cidr.Overlaps(r.prefix) {
				errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
					fmt.Sprintf("overlaps %s (%s): use a range that pods can have addresses from", r.prefix, r.name)))
				break
			}
		}
	}
	return errs
}

// Disjoint checks that no two prefixes have an address in common.
func Disjoint(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		for j, other := range cidrs[:i] {
			if !Usable(cidr) || !Usable(other) || !cidr.Overlaps(other) {
				continue
			}
			inner := cidr
			if other.Bits() > cidr.Bits() {
				inner = other
			}
			errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
				fmt.Sprintf("overlaps %s (%s): remove %s", other, p.Index(j), inner)))
			break
		}
	}
	return errs
}

// OnePerFamily checks that no two prefixes are of the same family.
func OnePerFamily(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	first := map[bool]int{} // by whether it is IPv6
	for i, cidr := range cidrs {
		if !Usable(cidr) {
			continue
		}
		if j, again := first[cidr.Addr().Is6()]; again {
			errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
				fmt.Sprintf("%s is of the same family: keep one of them", cidrs[j])))
			continue
		}
		first[cidr.Addr().Is6()] = i
	}
	return errs
}

// Within says whether all of p is in o.
func Within(p, o netip.Prefix) bool {
	return Usable(o) && p.Bits() >= o.Bits() && p.Overlaps(o)
}
