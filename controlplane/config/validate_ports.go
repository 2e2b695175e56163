// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/option"
	"github.com/waggle-net/waggle/internal/config/strict"
)

func (c *Config) validatePorts() field.ErrorList {
	var errs field.ErrorList
	var held []string // by the range of services
	ports, r := Ports(c), c.APIServer.ServiceNodePorts
	wrong := map[string]bool{} // by field: a port of two protocols is one mistake
	for _, port := range ports {
		if port.Field != "" && !wrong[port.Field] {
			if err := validatePort(port, ports); err != nil {
				errs = append(errs, err)
				wrong[port.Field] = true
			}
		}
		if r.Contains(port.Number) && !wrong[port.Field] {
			held = append(held, fmt.Sprintf("%s (%s)", port, port.Use))
		}
	}
	p := field.NewPath("apiserver", "serviceNodePorts")
	switch {
	case r.First < 1 || r.First > r.Last || r.Last > 65535:
		errs = append(errs, field.Invalid(p, r.String(), "use ports from 1 to 65535, the lower one first, as in 30000-32767"))
	case len(held) > 0:
		errs = append(errs, field.Invalid(p, r.String(),
			fmt.Sprintf("holds %s: use a range without ports of ours, as in 30000-32767", strings.Join(held, ", "))))
	}
	return errs
}

// validatePort checks a port that a field sets against its bounds, and against the
// others: those of fields that come first, and those that nothing sets.
func validatePort(port Port, all []Port) *field.Error {
	p := option.Path(port.Field)
	if port.Number < 1 || port.Number > 65535 {
		return field.Invalid(p, port.Number, "use a port from 1 to 65535")
	}
	self := slices.Index(all, port)
	for i, other := range all {
		if other.Number == port.Number && other.Protocol == port.Protocol && other.Field != port.Field && (i < self || other.Field == "") {
			return field.Invalid(p, port.Number, fmt.Sprintf("also the port of %s: use another one", other.Use))
		}
	}
	return nil
}

func (c *Config) validateDNS() field.ErrorList {
	p := field.NewPath("dns", "addresses")
	if len(c.DNS.Addresses) != len(c.ServiceCIDRs) {
		return field.ErrorList{field.Invalid(p, fmt.Sprint(c.DNS.Addresses),
			fmt.Sprintf("use one address of each of serviceCIDRs %v in their order, or leave it out", c.ServiceCIDRs))}
	}
	var errs field.ErrorList
	for i, a := range c.DNS.Addresses {
		if err := strict.Address(p.Index(i), a); err != nil {
			errs = append(errs, err)
		} else if err := dnsAddress(p.Index(i), a, c.ServiceCIDRs[i], servicesPath.Index(i)); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func dnsAddress(p *field.Path, a netip.Addr, cidr netip.Prefix, cidrPath *field.Path) *field.Error {
	switch {
	case !cidr.Contains(a):
		return field.Invalid(p, a.String(), fmt.Sprintf("not in %s (%s): use an address of it, as in %s", cidr, cidrPath, nth(cidr, 10)))
	case a == nth(cidr, 1):
		return field.Invalid(p, a.String(), fmt.Sprintf("the address of the service kubernetes.default: use another one, as in %s", nth(cidr, 10)))
	case a == cidr.Masked().Addr(), a.Is4() && !cidr.Contains(a.Next()):
		return field.Invalid(p, a.String(), fmt.Sprintf("the first or last address of %s, which no service gets: use another one, as in %s", cidr, nth(cidr, 10)))
	}
	return nil
}

// validateUpstreams checks that servers are addresses, and that none is ourselves:
// a name would go around until its time is up.
func (c *Config) validateUpstreams() field.ErrorList {
	var errs field.ErrorList
	p := field.NewPath("dns", "upstreams")
	for i, s := range c.DNS.Upstreams {
		server, err := netip.ParseAddrPort(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				errs = append(errs, field.Invalid(p.Index(i), s, "use an address, with a port if it is not 53, as in 192.0.2.53 or [2001:db8::53]:5353"))
				continue
			}
			server = netip.AddrPortFrom(a, 53)
		}
		ours := server.Addr().IsLoopback() || slices.Contains(c.NodeIPs, server.Addr())
		switch a := server.Addr(); {
		case slices.Contains(c.DNS.Addresses, a), ours && int(server.Port()) == c.DNS.Port:
			errs = append(errs, field.Invalid(p.Index(i), s, "the cluster DNS itself, which would ask itself forever: use another server"))
		case server.Port() == 0, a.IsUnspecified(), a.IsMulticast(), a.Is4In6():
			errs = append(errs, field.Invalid(p.Index(i), s, "not an address and port that a server can have: use another one"))
		}
	}
	return errs
}
