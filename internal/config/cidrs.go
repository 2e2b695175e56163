// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// The longest prefixes of a node's pods: two addresses are left of a /30 when
// the first and the last are not given out.
const maxPodBits4, maxPodBits6 = 30, 126

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

func (c *Config) validateCIDRs() field.ErrorList {
	pods, cluster, excluded := field.NewPath("podCIDRs"), field.NewPath("clusterCIDRs"), field.NewPath("masqueradeExclusions")
	var errs field.ErrorList
	errs = append(errs, c.validatePodCIDRs(pods)...)
	if !slices.Equal(c.ClusterCIDRs, c.PodCIDRs) { // else they are the default, and the same errors twice
		errs = append(errs, wellFormed(cluster, c.ClusterCIDRs)...)
		errs = append(errs, notReserved(cluster, c.ClusterCIDRs)...)
		errs = append(errs, disjoint(cluster, c.ClusterCIDRs)...)
		errs = append(errs, c.inCluster(pods)...)
	}
	errs = append(errs, wellFormed(excluded, c.MasqueradeExclusions)...)
	errs = append(errs, disjoint(excluded, c.MasqueradeExclusions)...)
	return append(errs, c.outsideCluster(excluded)...)
}

func (c *Config) validatePodCIDRs(p *field.Path) field.ErrorList {
	if len(c.PodCIDRs) == 0 {
		return field.ErrorList{field.Required(p, "give this node's pods a range, as in [10.244.1.0/24]")}
	}
	errs := wellFormed(p, c.PodCIDRs)
	errs = append(errs, notReserved(p, c.PodCIDRs)...)
	first := map[bool]int{} // by whether it is IPv6
	for i, cidr := range c.PodCIDRs {
		if !usable(cidr) {
			continue
		}
		most := maxPodBits4
		if cidr.Addr().Is6() {
			most = maxPodBits6
		}
		if cidr.Bits() > most {
			errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
				fmt.Sprintf("too few addresses: use a prefix length of %d or less", most)))
		}
		j, again := first[cidr.Addr().Is6()]
		if again {
			errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
				fmt.Sprintf("%s is of the same family: keep one of them", c.PodCIDRs[j])))
			continue
		}
		first[cidr.Addr().Is6()] = i
	}
	return errs
}

// usable says whether there is something to compare: the zero value and mapped
// addresses have an error of their own.
func usable(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }

func wellFormed(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		if err := strict.CIDR(p.Index(i), cidr); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func notReserved(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		for _, r := range reserved {
			if usable(cidr) && cidr.Overlaps(r.prefix) {
				errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
					fmt.Sprintf("overlaps %s (%s): use a range that pods can have addresses from", r.prefix, r.name)))
				break
			}
		}
	}
	return errs
}

func disjoint(p *field.Path, cidrs []netip.Prefix) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		for j, other := range cidrs[:i] {
			if !usable(cidr) || !usable(other) || !cidr.Overlaps(other) {
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

// inCluster checks that every pod CIDR lies inside of a cluster CIDR.
func (c *Config) inCluster(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range c.PodCIDRs {
		if usable(cidr) && !slices.ContainsFunc(c.ClusterCIDRs, func(o netip.Prefix) bool { return within(cidr, o) }) {
			errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
				fmt.Sprintf("not inside of any of clusterCIDRs %v: add the range of all pods of this family there", c.ClusterCIDRs)))
		}
	}
	return errs
}

// outsideCluster checks that exclusions mean something: what is inside of the
// cluster is never masqueraded. An exclusion may well be wider than the cluster.
func (c *Config) outsideCluster(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range c.MasqueradeExclusions {
		for _, o := range c.ClusterCIDRs {
			if usable(cidr) && within(cidr, o) {
				errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
					fmt.Sprintf("inside of cluster CIDR %s, which sees the addresses of pods already: remove it", o)))
			}
		}
	}
	return errs
}

// within says whether all of p is in o.
func within(p, o netip.Prefix) bool {
	return usable(o) && p.Bits() >= o.Bits() && p.Overlaps(o)
}
