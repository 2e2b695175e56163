// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// Bounds of ranges. The controller-manager keeps a bitmap of nodes of 2^16 bits for
// IPv6; the apiserver's allocator takes IPv6 ranges of services up to a /64; the
// tenth address, which is that of DNS, needs four bits.
const (
	maxNodeMask4, maxNodeMask6       = 30, 126
	maxNodeBits6                     = 16
	minServiceBits4, minServiceBits6 = 8, 64
	maxServiceBits4, maxServiceBits6 = 28, 124
)

var (
	podsPath     = field.NewPath("podCIDRs")
	servicesPath = field.NewPath("serviceCIDRs")
	nodesPath    = field.NewPath("nodeIPs")
)

func (c *Config) validateNetwork() field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, ranges(podsPath, c.PodCIDRs)...)
	errs = append(errs, c.validateMasks()...)
	errs = append(errs, ranges(servicesPath, c.ServiceCIDRs)...)
	errs = append(errs, c.validateServiceSizes()...)
	errs = append(errs, c.validateNodeIPs()...)
	errs = append(errs, apart(servicesPath, c.ServiceCIDRs, podsPath, c.PodCIDRs)...)
	return append(errs, c.validateFamilies()...)
}

func ranges(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	if len(cidrs) == 0 {
		return field.ErrorList{field.Required(p, "use a range of each family, as in [10.244.0.0/16]")}
	}
	errs := strict.WellFormed(p, cidrs)
	errs = append(errs, strict.Unreserved(p, cidrs)...)
	return append(errs, strict.OnePerFamily(p, cidrs)...)
}

func (c *Config) validateMasks() field.ErrorList {
	var errs field.ErrorList
	for _, cidr := range c.PodCIDRs {
		if !strict.Usable(cidr) {
			continue
		}
		name, mask, most := "ipv4", c.NodeCIDRMaskSizes.IPv4, maxNodeMask4
		if cidr.Addr().Is6() {
			name, mask, most = "ipv6", c.NodeCIDRMaskSizes.IPv6, min(maxNodeMask6, cidr.Bits()+maxNodeBits6)
		}
		p := field.NewPath("nodeCIDRMaskSizes", name)
		switch {
		case mask < cidr.Bits():
			errs = append(errs, field.Invalid(p, mask,
				fmt.Sprintf("a node's range would be larger than all of podCIDRs' %s: use a prefix length from %d to %d", cidr, cidr.Bits(), most)))
		case mask > most:
			errs = append(errs, field.Invalid(p, mask,
				fmt.Sprintf("too long for ranges out of podCIDRs' %s: use a prefix length from %d to %d", cidr, cidr.Bits(), most)))
		}
	}
	return errs
}

func (c *Config) validateServiceSizes() field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range c.ServiceCIDRs {
		least, most := minServiceBits4, maxServiceBits4
		if cidr.Addr().Is6() {
			least, most = minServiceBits6, maxServiceBits6
		}
		if strict.Usable(cidr) && (cidr.Bits() < least || cidr.Bits() > most) {
			errs = append(errs, field.Invalid(servicesPath.Index(i), cidr.String(),
				fmt.Sprintf("use a prefix length from %d to %d", least, most)))
		}
	}
	return errs
}

func (c *Config) validateNodeIPs() field.ErrorList {
	var errs field.ErrorList
	first := map[Family]netip.Addr{}
	for i, a := range c.NodeIPs {
		p := nodesPath.Index(i)
		switch err := strict.Address(p, a); {
		case err != nil:
			errs = append(errs, err)
			continue
		case a.IsLinkLocalUnicast():
			errs = append(errs, field.Invalid(p, a.String(), "a link-local address: use one that other nodes reach"))
		case first[FamilyOf(a)].IsValid():
			errs = append(errs, field.Invalid(p, a.String(), fmt.Sprintf("%s is of the same family: keep one of them", first[FamilyOf(a)])))
		default:
			first[FamilyOf(a)] = a
		}
		for name, cidrs := range map[string][]netip.Prefix{"podCIDRs": c.PodCIDRs, "serviceCIDRs": c.ServiceCIDRs} {
			for _, cidr := range cidrs {
				if strict.Usable(cidr) && cidr.Contains(a) {
					errs = append(errs, field.Invalid(p, a.String(),
						fmt.Sprintf("inside %s' %s: set %s to a range that the network around does not use", name, cidr, name)))
				}
			}
		}
	}
	return errs
}

// apart checks that no range of one list overlaps one of another.
func apart(p *field.Path, cidrs []netip.Prefix, otherPath *field.Path, others []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		for j, other := range others {
			if strict.Usable(cidr) && strict.Usable(other) && cidr.Overlaps(other) {
				errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
					fmt.Sprintf("overlaps %s (%s): move one of them", other, otherPath.Index(j))))
			}
		}
	}
	return errs
}

// validateFamilies checks that services and this node have the families of the
// pods, in the same order: the apiserver takes the first address everywhere.
func (c *Config) validateFamilies() field.ErrorList {
	var errs field.ErrorList
	want := prefixFamilies(c.PodCIDRs)
	unusable := func(cidr netip.Prefix) bool { return !strict.Usable(cidr) } // with an error of its own
	if slices.ContainsFunc(c.PodCIDRs, unusable) {
		return nil
	}
	compare := func(p *field.Path, value any, got []Family, what string) {
		for _, f := range want {
			if !slices.Contains(got, f) {
				errs = append(errs, field.Invalid(p, fmt.Sprint(value), fmt.Sprintf("no %s %s, which podCIDRs has: add one here, or remove the range there", f, what)))
				return
			}
		}
		for _, f := range got {
			if !slices.Contains(want, f) {
				errs = append(errs, field.Invalid(p, fmt.Sprint(value), fmt.Sprintf("an %s %s, and podCIDRs has none: remove it here, or add a range there", f, what)))
				return
			}
		}
		if !slices.Equal(got, want) {
			errs = append(errs, field.Invalid(p, fmt.Sprint(value), fmt.Sprintf("%s comes first in podCIDRs: write it first here, too", want[0])))
		}
	}
	if !slices.ContainsFunc(c.ServiceCIDRs, unusable) {
		compare(servicesPath, c.ServiceCIDRs, prefixFamilies(c.ServiceCIDRs), "range")
	}
	if len(c.NodeIPs) > 0 && !slices.ContainsFunc(c.NodeIPs, func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() }) {
		compare(nodesPath, c.NodeIPs, addrFamilies(c.NodeIPs), "address")
	}
	return errs
}
