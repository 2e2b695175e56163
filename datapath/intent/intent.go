// SPDX-License-Identifier: Apache-2.0

// Package intent holds what the cluster wants, as typed Go values.
//
// It is the seam between the sources of truth (a YAML file, or the informers of
// client-go) and the datapath. Past this point there are no Kubernetes objects,
// no clients and no errors of the network: a Source fills the tables of a
// State, and the compile steps read them.
//
// Addresses are always unmapped: a v4-mapped IPv6 address never appears here.
package intent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
)

// Source keeps a State up to date until its context ends.
//
// A Source marks each table synced once it has put in everything that exists,
// and not before: nothing is published to the kernel from a table that is not
// synced. A table that it knows nothing of it never marks. A source that loses
// its upstream keeps the State as it is.
type Source interface {
	Run(ctx context.Context, s *State) error
}

// State is everything that the datapath is told from outside of the node.
type State struct {
	Nodes    *Table[string, Node]
	Services *Table[Name, Service]
	// Pods are those of this node alone. A file has none.
	Pods *Table[Name, Pod]
}

// NewState returns a State with empty tables, none of them synced.
func NewState() *State {
	return &State{
		Nodes:    NewTable[string, Node](),
		Services: NewTable[Name, Service](),
		Pods:     NewTable[Name, Pod](),
	}
}

// Name is the namespace and name of an object.
type Name struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Compare orders names by namespace, then name.
func (n Name) Compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, o.Namespace), cmp.Compare(n.Name, o.Name))
}

// Node is a machine of the cluster, this one included.
type Node struct {
	Name string `json:"name"`
	// Addresses are the node's own, most preferred first in each family.
	Addresses []netip.Addr `json:"addresses"`
	// PodCIDRs are the ranges that the node's pods get their addresses from.
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
}

// Pod is a pod of this node that has not finished: its addresses are its own.
type Pod struct {
	Name
	// UID tells a pod from another that had its name before.
	UID string `json:"uid"`
	// Addresses are empty until the pod has its network. A pod of the host's
	// network has the node's.
	Addresses   []netip.Addr      `json:"addresses"`
	HostNetwork bool              `json:"hostNetwork,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// Service is a virtual address with the backends behind each of its ports.
type Service struct {
	Name
	// ClusterIPs are the virtual addresses, at most one a family; empty for a
	// headless service, which the datapath has no part in.
	ClusterIPs []netip.Addr  `json:"clusterIPs"`
	Ports      []ServicePort `json:"ports"`
}

// ServicePort is one port of a Service. Its backends may be of both families:
// each address of the service uses those of its own.
type ServicePort struct {
	// Name is empty where the service has one port only.
	Name     string   `json:"name,omitempty"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
	// NodePort is the port of every node that leads here, too; 0 for none.
	NodePort uint16    `json:"nodePort,omitempty"`
	Backends []Backend `json:"backends"`
}

// Backend is one address that serves a ServicePort.
type Backend struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port"`
	// Ready says that the backend takes new connections.
	Ready bool `json:"ready"`
}

// Protocol is a transport protocol by its number in the IP header.
type Protocol uint8

// The protocols that services know (IANA protocol numbers).
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

var protocolNames = map[Protocol]string{TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}

func (p Protocol) String() string {
	if s, ok := protocolNames[p]; ok {
		return s
	}
	return fmt.Sprintf("IP-%d", uint8(p))
}

// MarshalText writes the name that Kubernetes uses: TCP, UDP or SCTP.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText accepts the names that Kubernetes uses; empty means TCP, as there.
func (p *Protocol) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = TCP
		return nil
	}
	for n, s := range protocolNames {
		if s == string(b) {
			*p = n
			return nil
		}
	}
	return fmt.Errorf("unknown protocol %q: use TCP, UDP or SCTP", b)
}
