// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/internal/config/strict"
)

// addressPreference is which addresses of a node are its own, and in which order.
var addressPreference = []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP}

func convertNode(n *corev1.Node) *node {
	out, bad := &node{object: named(n)}, problems{}
	out.intent.Name = n.Name
	for _, kind := range addressPreference {
		for i, a := range n.Status.Addresses {
			if a.Type != kind {
				continue
			}
			addr, err := address(a.Address)
			if bad.found(err, "status.addresses", i, ".address") || slices.Contains(out.intent.Addresses, addr) {
				continue
			}
			out.intent.Addresses = append(out.intent.Addresses, addr)
		}
	}
	for i, text := range n.Spec.PodCIDRs {
		if cidr, err := cidr(text); !bad.found(err, "spec.podCIDRs", i, "") {
			out.intent.PodCIDRs = append(out.intent.PodCIDRs, cidr)
		}
	}
	out.problem = bad.err()
	return out
}

func convertPod(p *corev1.Pod) *pod {
	out, bad := &pod{object: named(p)}, problems{}
	out.finished = p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	out.intent = intent.Pod{Name: out.name, UID: string(p.UID), HostNetwork: p.Spec.HostNetwork, Labels: p.Labels}
	for i, ip := range p.Status.PodIPs {
		if addr, err := address(ip.IP); !bad.found(err, "status.podIPs", i, ".ip") {
			out.intent.Addresses = append(out.intent.Addresses, addr)
		}
	}
	out.problem = bad.err()
	return out
}

func convertService(s *corev1.Service) *service {
	out, bad := &service{object: named(s)}, problems{}
	out.intent.Name = out.name
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return out
	}
	for i, text := range s.Spec.ClusterIPs {
		if addr, err := address(text); !bad.found(err, "spec.clusterIPs", i, "") {
			out.intent.ClusterIPs = append(out.intent.ClusterIPs, addr)
		}
	}
	for i, p := range s.Spec.Ports {
		sp := intent.ServicePort{Name: p.Name}
		var err *field.Error
		if sp.Protocol, err = protocol(p.Protocol); bad.found(err, "spec.ports", i, ".protocol") {
			continue
		}
		if sp.Port, err = port(p.Port); bad.found(err, "spec.ports", i, ".port") {
			continue
		}
		if p.NodePort != 0 {
			sp.NodePort, err = port(p.NodePort)
			bad.found(err, "spec.ports", i, ".nodePort") // the rest of the port is good
		}
		out.intent.Ports = append(out.intent.Ports, sp)
	}
	out.problem = bad.err()
	return out
}

func convertSlice(s *discoveryv1.EndpointSlice) *slice {
	out, bad := &slice{object: named(s), service: s.Labels[discoveryv1.LabelServiceName]}, problems{}
	if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		return out // FQDN: nothing to send a packet to
	}
	for i, p := range s.Ports {
		sp := slicePort{name: value(p.Name)}
		var err *field.Error
		if sp.protocol, err = protocol(value(p.Protocol)); bad.found(err, "ports", i, ".protocol") {
			continue
		}
		// Without a number it would mean all ports, which no service can say.
		if sp.port, err = port(value(p.Port)); bad.found(err, "ports", i, ".port") {
			continue
		}
		out.ports = append(out.ports, sp)
	}
	out.endpoints = make([]endpoint, 0, len(s.Endpoints))
	for i, e := range s.Endpoints {
		addr, err := endpointAddress(s.AddressType, e.Addresses)
		if bad.found(err, "endpoints", i, ".addresses[0]") {
			continue
		}
		ready := e.Conditions.Ready == nil || *e.Conditions.Ready // unknown means ready
		out.endpoints = append(out.endpoints, endpoint{addr, ready})
	}
	out.problem = bad.err()
	return out
}

func named(o metav1.Object) object {
	return object{name: intent.Name{Namespace: o.GetNamespace(), Name: o.GetName()}}
}

// value is what p points at, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// problems collects what is wrong with an object, and where.
type problems struct{ list field.ErrorList }

func (p *problems) err() error { return strict.Err(p.list) }

// found takes note of an error, if it is one, in element i of a list.
func (p *problems) found(err *field.Error, list string, i int, below string) bool {
	if err == nil {
		return false
	}
	err.Field = fmt.Sprintf("%s[%d]%s", list, i, below)
	p.list = append(p.list, err)
	return true
}

func address(text string) (netip.Addr, *field.Error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, field.Invalid(nil, text, "not an IP address")
	}
	return addr, strict.Address(nil, addr)
}

// endpointAddress reads the addresses of an endpoint. Those beyond the first
// mean the same endpoint, and nobody reads them.
func endpointAddress(want discoveryv1.AddressType, all []string) (netip.Addr, *field.Error) {
	if len(all) == 0 {
		return netip.Addr{}, field.Required(nil, "an endpoint has an address")
	}
	addr, err := address(all[0])
	if err == nil && addr.Is4() != (want == discoveryv1.AddressTypeIPv4) {
		err = field.Invalid(nil, all[0], "not of the slice's addressType, "+string(want))
	}
	return addr, err
}

func cidr(text string) (netip.Prefix, *field.Error) {
	cidr, err := netip.ParsePrefix(text)
	if err != nil {
		return cidr, field.Invalid(nil, text, "not a CIDR")
	}
	return cidr, strict.CIDR(nil, cidr)
}

func protocol(name corev1.Protocol) (out intent.Protocol, _ *field.Error) {
	if err := out.UnmarshalText([]byte(name)); err != nil {
		return out, field.Invalid(nil, name, err.Error())
	}
	return out, nil
}

func port(number int32) (uint16, *field.Error) {
	if number < 1 || number > 65535 {
		return 0, field.Invalid(nil, number, "use a number from 1 to 65535")
	}
	return uint16(number), nil
}
