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

func (c *Config) validateCIDRs() field.ErrorList {
	pods, cluster, excluded := field.NewPath("podCIDRs"), field.NewPath("clusterCIDRs"), field.NewPath("masqueradeExclusions")
	var errs field.ErrorList
	errs = append(errs, c.validatePodCIDRs(pods)...)
	if len(c.ClusterCIDRs) == 0 && c.InCluster() {
		errs = append(errs, field.Required(cluster, "name the ranges of all pods of the cluster, as in [10.244.0.0/16]"))
	}
	if !slices.Equal(c.ClusterCIDRs, c.PodCIDRs) { // else they are the default, and the same errors twice
		errs = append(errs, strict.WellFormed(cluster, c.ClusterCIDRs)...)
		errs = append(errs, strict.Unreserved(cluster, c.ClusterCIDRs)...)
		errs = append(errs, strict.Disjoint(cluster, c.ClusterCIDRs)...)
		errs = append(errs, c.inCluster(pods)...)
	}
	errs = append(errs, strict.WellFormed(excluded, c.MasqueradeExclusions)...)
	errs = append(errs, strict.Disjoint(excluded, c.MasqueradeExclusions)...)
	return append(errs, c.outsideCluster(excluded)...)
}

// UsePodCIDRs takes the ranges that the cluster gave this node, unless the
// configuration has its own.
func (c *Config) UsePodCIDRs(cidrs []netip.Prefix) error {
	if len(c.PodCIDRs) > 0 {
		return nil
	}
	c.PodCIDRs = cidrs
	p := field.NewPath("spec", "podCIDRs")
	if len(cidrs) == 0 {
		return strict.Err(field.ErrorList{field.Required(p, "the cluster gives nodes no ranges: configure its controller-manager to, or set podCIDRs")})
	}
	return strict.Err(append(c.validatePodCIDRs(p), c.inCluster(p)...))
}

func (c *Config) validatePodCIDRs(p *field.Path) field.ErrorList {
	if len(c.PodCIDRs) == 0 && c.InCluster() {
		return nil // the Node object has them
	}
	if len(c.PodCIDRs) == 0 {
		return field.ErrorList{field.Required(p, "give this node's pods a range, as in [10.244.1.0/24]")}
	}
	errs := strict.WellFormed(p, c.PodCIDRs)
	errs = append(errs, strict.Unreserved(p, c.PodCIDRs)...)
	for i, cidr := range c.PodCIDRs {
		most := maxPodBits4
		if cidr.Addr().Is6() {
			most = maxPodBits6
		}
		if strict.Usable(cidr) && cidr.Bits() > most {
			errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
				fmt.Sprintf("too few addresses: use a prefix length of %d or less", most)))
		}
	}
	return append(errs, strict.OnePerFamily(p, c.PodCIDRs)...)
}

// inCluster checks that every pod CIDR lies inside of a cluster CIDR.
func (c *Config) inCluster(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range c.PodCIDRs {
		if strict.Usable(cidr) && !slices.ContainsFunc(c.ClusterCIDRs, func(o netip.Prefix) bool { return strict.Within(cidr, o) }) {
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
			if strict.Usable(cidr) && strict.Within(cidr, o) {
				errs = append(errs, field.Invalid(p.Index(i), cidr.String(),
					fmt.Sprintf("inside of cluster CIDR %s, which sees the addresses of pods already: remove it", o)))
			}
		}
	}
	return errs
}
