// SPDX-License-Identifier: Apache-2.0

package file

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// validate returns everything that is wrong with the document.
func (d *document) validate() field.ErrorList {
	errs := strict.Header(d.APIVersion, APIVersion, d.Kind, Kind)
	errs = append(errs, validateNodes(field.NewPath("nodes"), d.Nodes)...)
	return append(errs, validateServices(field.NewPath("services"), d.Services)...)
}

func validateNodes(p *field.Path, nodes []node) field.ErrorList {
	var errs field.ErrorList
	names := map[string]int{}
	addresses := map[netip.Addr]*node{}
	for i := range nodes {
		n, p := &nodes[i], p.Index(i)
		errs = append(errs, validateName(p.Child("name"), n.Name, validation.IsDNS1123Subdomain, strict.SubdomainRule)...)
		if j, again := names[n.Name]; again && n.Name != "" {
			errs = append(errs, duplicate(p.Child("name"), n.Name, fmt.Sprintf("nodes[%d] has this name: keep one, or rename one", j)))
		} else {
			names[n.Name] = i
		}
		errs = append(errs, validateNodeAddresses(p.Child("addresses"), n, addresses)...)
		for j, cidr := range n.PodCIDRs {
			if err := strict.CIDR(p.Child("podCIDRs").Index(j), cidr); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return append(errs, overlaps(p, nodes)...)
}

// validateNodeAddresses checks n's addresses, and that they are no other
// node's: owners are those of the nodes before.
func validateNodeAddresses(p *field.Path, n *node, owners map[netip.Addr]*node) field.ErrorList {
	if len(n.Addresses) == 0 {
		return field.ErrorList{field.Required(p, "give the addresses by which other nodes reach this one")}
	}
	var errs field.ErrorList
	for i, a := range n.Addresses {
		if err := strict.Address(p.Index(i), a); err != nil {
			errs = append(errs, err)
		} else if o, taken := owners[a]; taken {
			errs = append(errs, duplicate(p.Index(i), a.String(),
				fmt.Sprintf("an address of node %s already, and of node %s: keep one", o.Name, n.Name)))
		} else {
			owners[a] = n
		}
	}
	return errs
}

// claim is a pod CIDR with the place where a node claims it.
type claim struct {
	netip.Prefix
	node, pos int
}

// overlaps finds pod CIDRs that overlap. Two CIDRs either nest or have nothing
// in common, so after sorting it is enough to compare each with the last that
// nothing before it contains.
func overlaps(p *field.Path, nodes []node) field.ErrorList {
	var claims []claim
	for i, n := range nodes {
		for j, cidr := range n.PodCIDRs {
			if cidr.IsValid() {
				claims = append(claims, claim{cidr.Masked(), i, j})
			}
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()),
			cmp.Compare(a.node, b.node), cmp.Compare(a.pos, b.pos))
	})
	var errs field.ErrorList
	for i, outer := 1, 0; i < len(claims); i++ {
		c, o := claims[i], claims[outer]
		if !c.Overlaps(o.Prefix) {
			outer = i
			continue
		}
		errs = append(errs, field.Invalid(p.Index(c.node).Child("podCIDRs").Index(c.pos), c.String(),
			fmt.Sprintf("pod CIDR of node %s overlaps %s of node %s: give each node a range of its own",
				nodes[c.node].Name, o.Prefix, nodes[o.node].Name)))
	}
	return errs
}

// validateName checks that a name is there and passes check; rule says how.
func validateName(p *field.Path, name string, check func(string) []string, rule string) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(p, rule)}
	case len(check(name)) > 0:
		return field.ErrorList{field.Invalid(p, name, rule)}
	}
	return nil
}

func duplicate(p *field.Path, value, remedy string) *field.Error {
	err := field.Duplicate(p, value)
	err.Detail = remedy
	return err
}
