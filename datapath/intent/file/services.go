// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/internal/config/strict"
)

// frontend is what can belong to one service only.
type frontend struct {
	address  netip.Addr
	port     int
	protocol intent.Protocol
}

func validateServices(p *field.Path, services []service) field.ErrorList {
	var errs field.ErrorList
	names := map[intent.Name]int{}
	owners := map[frontend]intent.Name{}
	for i := range services {
		s, p := &services[i], p.Index(i)
		errs = append(errs, validateName(p.Child("namespace"), s.Namespace, validation.IsDNS1123Label, strict.LabelRule)...)
		errs = append(errs, validateName(p.Child("name"), s.Name, validation.IsDNS1123Label, strict.LabelRule)...)
		if j, again := names[s.name()]; again {
			errs = append(errs, duplicate(p.Child("name"), s.name().String(),
				fmt.Sprintf("services[%d] has this namespace and name: keep one, or rename one", j)))
		} else {
			names[s.name()] = i
		}
		errs = append(errs, validateClusterIPs(p.Child("clusterIPs"), s.ClusterIPs)...)
		errs = append(errs, validatePorts(p.Child("ports"), s)...)
		errs = append(errs, claimFrontends(p.Child("ports"), s, owners)...)
	}
	return errs
}

func validateClusterIPs(p *field.Path, ips []netip.Addr) field.ErrorList {
	var errs field.ErrorList
	first := map[bool]netip.Addr{} // by whether it is IPv6
	for i, a := range ips {
		if err := strict.Address(p.Index(i), a); err != nil {
			errs = append(errs, err)
			continue
		}
		if other, again := first[a.Is6()]; again {
			errs = append(errs, field.Invalid(p.Index(i), a.String(), fmt.Sprintf("%s is of the same family: keep one of them", other)))
			continue
		}
		first[a.Is6()] = a
	}
	return errs
}

func validatePorts(p *field.Path, s *service) field.ErrorList {
	if len(s.Ports) == 0 && len(s.ClusterIPs) > 0 {
		return field.ErrorList{field.Required(p, "give a service with addresses a port")}
	}
	var errs field.ErrorList
	names := map[string]int{}
	for i := range s.Ports {
		port, p := &s.Ports[i], p.Index(i)
		if port.Name != "" || len(s.Ports) > 1 { // the only port needs no name
			errs = append(errs, validateName(p.Child("name"), port.Name, validation.IsDNS1123Label, strict.LabelRule)...)
		}
		if j, again := names[port.Name]; again && port.Name != "" {
			errs = append(errs, duplicate(p.Child("name"), port.Name, fmt.Sprintf("ports[%d] has this name: rename one", j)))
		}
		names[port.Name] = i
		errs = append(errs, validatePort(p.Child("port"), port.Port)...)
		errs = append(errs, validateBackends(p.Child("backends"), port.Backends)...)
	}
	return errs
}

func validateBackends(p *field.Path, backends []backend) field.ErrorList {
	var errs field.ErrorList
	type key struct {
		address netip.Addr
		port    int
	}
	seen := map[key]int{}
	for i, b := range backends {
		p := p.Index(i)
		bad := validatePort(p.Child("port"), b.Port)
		if err := strict.Address(p.Child("address"), b.Address); err != nil {
			bad = append(bad, err)
		}
		if j, again := seen[key{b.Address, b.Port}]; again && len(bad) == 0 {
			bad = append(bad, duplicate(p, fmt.Sprintf("%s port %d", b.Address, b.Port), fmt.Sprintf("the same as backends[%d]: keep one", j)))
		} else {
			seen[key{b.Address, b.Port}] = i
		}
		errs = append(errs, bad...)
	}
	return errs
}

// claimFrontends finds frontends that a service before claims, or a port of
// this one before.
func claimFrontends(p *field.Path, s *service, owners map[frontend]intent.Name) field.ErrorList {
	var errs field.ErrorList
	for i := range s.Ports {
		port := &s.Ports[i]
		if len(validatePort(p, port.Port)) > 0 {
			continue // it has an error of its own
		}
		for _, a := range s.ClusterIPs {
			if !a.IsValid() {
				continue
			}
			f := frontend{a, port.Port, port.protocol()}
			if o, taken := owners[f]; taken {
				claimed := fmt.Sprintf("claimed by service %s, and by %s: keep one", o, s.name())
				if o == s.name() {
					claimed = fmt.Sprintf("claimed by another port of service %s: keep one", o)
				}
				errs = append(errs, duplicate(p.Index(i), fmt.Sprintf("%s port %d/%s", f.address, f.port, f.protocol), claimed))
				continue
			}
			owners[f] = s.name()
		}
	}
	return errs
}

func validatePort(p *field.Path, port int) field.ErrorList {
	if port >= 1 && port <= 65535 {
		return nil
	}
	return field.ErrorList{field.Invalid(p, port, "use a port from 1 to 65535")}
}
