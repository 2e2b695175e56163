// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/waggle-net/waggle/datapath/intent"
)

// join puts the endpoints of a service's slices behind its ports. The order of
// the slices does not matter.
func join(svc *service, parts []*slice) intent.Service {
	out := svc.intent
	out.Ports = slices.Clone(out.Ports)
	for i := range out.Ports {
		out.Ports[i].Backends = backends(&out.Ports[i], parts)
	}
	return out
}

// backends returns who serves a port: the endpoints of each slice that has a
// port of its name and protocol, whose number each slice may say differently.
// An endpoint that moves between slices is for a while in both, and an address
// may be in use again by a new pod before the old one is gone: it is one
// backend, ready if one of them is.
func backends(port *intent.ServicePort, parts []*slice) []intent.Backend {
	var most int
	for _, s := range parts {
		most += len(s.endpoints)
	}
	if most == 0 {
		return nil
	}
	out := make([]intent.Backend, 0, most)
	for _, s := range parts {
		for _, p := range s.ports {
			if p.name != port.Name || p.protocol != port.Protocol {
				continue
			}
			for _, e := range s.endpoints {
				out = append(out, intent.Backend{Address: e.address, Port: p.port, Ready: e.ready})
			}
		}
	}
	if len(out) == 0 {
		return nil // as above: what is the same must be equal
	}
	slices.SortFunc(out, func(a, b intent.Backend) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), readyFirst(a, b))
	})
	return slices.CompactFunc(out, func(a, b intent.Backend) bool {
		return a.Address == b.Address && a.Port == b.Port
	})
}

func readyFirst(a, b intent.Backend) int {
	switch {
	case a.Ready == b.Ready:
		return 0
	case a.Ready:
		return -1
	}
	return 1
}

// The service that the API servers put their own endpoints behind, and its port.
var (
	serversName = intent.Name{Namespace: "default", Name: "kubernetes"}
	serversPort = intent.ServicePort{Name: "https", Protocol: intent.TCP}
)

// servers returns where API servers listen.
func servers(parts []*slice) []netip.AddrPort {
	var out []netip.AddrPort
	for _, b := range backends(&serversPort, parts) {
		if b.Ready {
			out = append(out, netip.AddrPortFrom(b.Address, b.Port))
		}
	}
	return out
}
