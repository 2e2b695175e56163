// SPDX-License-Identifier: Apache-2.0

// Package service turns services into what the programs look up: frontends,
// slots and backends.
//
//	intent.Service --Compile--> Frontend --Manager--> maps
//
// Compile is pure. The Manager numbers backends, places regions of slots, and
// never edits what a program may be reading: see bpf/lib/service.h.
package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/maps"
)

// Address is an address, port and protocol: of a service or of a backend.
type Address struct {
	Addr     netip.Addr
	Port     uint16
	Protocol intent.Protocol
}

func (a Address) String() string {
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(a.Addr, a.Port), a.Protocol)
}

// Compare orders addresses: IPv4 first, then by value.
func (a Address) Compare(b Address) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

func (a Address) frontendKey() maps.FrontendKey {
	return maps.FrontendKey{Addr: maps.AddrFrom(a.Addr), Port: maps.Port(a.Port), L4Proto: uint8(a.Protocol)}
}

func addressOf(k maps.FrontendKey) Address {
	return Address{Addr: maps.AddrTo(k.Addr), Port: maps.Port(k.Port), Protocol: intent.Protocol(k.L4Proto)}
}

func (a Address) backend() maps.Backend {
	return maps.Backend{
		Addr: maps.AddrFrom(a.Addr), Port: maps.Port(a.Port),
		L4Proto: uint8(a.Protocol), Flags: maps.BackendReady,
	}
}

func backendAddress(b maps.Backend) Address {
	return Address{Addr: maps.AddrTo(b.Addr), Port: maps.Port(b.Port), Protocol: intent.Protocol(b.L4Proto)}
}

// Frontend is one address that a service is reached at, and who serves it.
type Frontend struct {
	Address
	// Backends are the ready ones of the address's family, each once, in order.
	Backends []Address
	// Known is how many backends of the family there are, ready or not.
	Known int
}

// Compile says where a service is reached and who serves it there, and what of
// it cannot be served. Node ports are served at the given addresses, those of this
// node, of the families that the service has.
func Compile(svc *intent.Service, node []netip.Addr) (fes []Frontend, problems []error) {
	add := func(at Address, port *intent.ServicePort) {
		fe := Frontend{Address: at}
		var err error
		if fe.Backends, fe.Known, err = compileBackends(port, at); err != nil {
			problems = append(problems, fmt.Errorf("service %s, %s: %w", svc.Name, at, err))
		}
		fes = append(fes, fe)
	}
	for _, ip := range svc.ClusterIPs {
		for i := range svc.Ports {
			port := &svc.Ports[i]
			add(Address{ip, port.Port, port.Protocol}, port)
			for _, a := range node {
				if port.NodePort != 0 && a.Is4() == ip.Is4() {
					add(Address{a, port.NodePort, port.Protocol}, port)
				}
			}
		}
	}
	return fes, problems
}

func compileBackends(port *intent.ServicePort, at Address) (ready []Address, known int, err error) {
	for _, b := range port.Backends {
		if b.Address.Is4() != at.Addr.Is4() {
			continue
		}
		known++
		if !b.Ready {
			continue
		}
		if port.Protocol == intent.SCTP && b.Port != at.Port {
			// A new port would need a CRC32c over the whole packet.
			err = fmt.Errorf("backend %s: SCTP ports cannot be translated: make targetPort %d",
				netip.AddrPortFrom(b.Address, b.Port), at.Port)
			continue
		}
		ready = append(ready, Address{b.Address, b.Port, port.Protocol})
	}
	slices.SortFunc(ready, Address.Compare)
	return slices.Compact(ready), known, err
}
