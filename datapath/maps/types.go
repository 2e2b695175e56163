// SPDX-License-Identifier: Apache-2.0

// Package maps is the one place that reads and writes the kernel's maps: typed
// access, the grace period after which nothing reads what was replaced, and
// the reconciler that applies the difference between wanted and programmed.
//
// Types are declared in C (bpf/lib) and generated; docs/maps.md lists the maps.
package maps

import (
	"encoding/binary"
	"net/netip"

	"github.com/waggle-net/waggle/bpf"
)

// The types that both sides share, under the names that Go code uses.
type (
	Addr        = bpf.PodAddr
	Backend     = bpf.PodBackend
	Counter     = bpf.PodCounter
	Endpoint    = bpf.PodEndpoint
	Frontend    = bpf.PodFrontend
	FrontendKey = bpf.PodFrontendKey
)

// Marks that the programs set on endpoints; see bpf/lib/endpoint.h.
const (
	MarkNAT   = uint32(bpf.PodEpMarkEP_NAT)
	MarkStack = uint32(bpf.PodEpMarkEP_STACK)
)

// BackendReady is the flag of a backend that takes traffic.
const BackendReady = uint8(bpf.PodBackendFlagBACKEND_READY)

// FrontendCheck says in a frontend's value which frontend it is of; programs
// compare it with their key. See frontend_lookup() in bpf/lib/service.h.
func FrontendCheck(k FrontendKey) uint32 {
	return k.Addr.W[0] ^ k.Addr.W[1] ^ k.Addr.W[2] ^ k.Addr.W[3] ^ (uint32(k.Port)<<16 | uint32(k.L4Proto))
}

// AddrFrom converts an address to the kernel's form, IPv4 v4-mapped.
func AddrFrom(a netip.Addr) Addr {
	b := a.As16()
	var out Addr
	for i := range out.W {
		out.W[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

// AddrTo converts an address from the kernel's form, unmapped.
func AddrTo(a Addr) netip.Addr {
	var b [16]byte
	for i, w := range a.W {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

// Port converts a port between host and network byte order, either way.
func Port(p uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], p)
	return binary.NativeEndian.Uint16(b[:])
}
