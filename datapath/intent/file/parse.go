// SPDX-License-Identifier: Apache-2.0

package file

import (
	"net/netip"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/internal/config/strict"
)

// The version and kind that an intent file must name.
const (
	APIVersion = "waggle.dev/v1alpha1"
	Kind       = "Intent"
)

// document is the file, as it is written. It differs from the intent where a
// file leaves out what is usual.
type document struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Nodes      []node    `json:"nodes"`
	Services   []service `json:"services"`
}

type node struct {
	Name      string         `json:"name"`
	Addresses []netip.Addr   `json:"addresses"`
	PodCIDRs  []netip.Prefix `json:"podCIDRs"`
}

type service struct {
	Namespace  string       `json:"namespace"`
	Name       string       `json:"name"`
	ClusterIPs []netip.Addr `json:"clusterIPs"`
	Ports      []port       `json:"ports"`
}

type port struct {
	Name     string           `json:"name"`
	Protocol *intent.Protocol `json:"protocol"` // default: TCP
	Port     int              `json:"port"`
	Backends []backend        `json:"backends"`
}

type backend struct {
	Address netip.Addr `json:"address"`
	Port    int        `json:"port"`
	Ready   *bool      `json:"ready"` // default: true
}

// Parse reads an intent file. It returns everything that is in it, or an error
// that holds everything that is wrong with it.
func Parse(data []byte) (map[string]intent.Node, map[intent.Name]intent.Service, error) {
	var d document
	errs, err := strict.Decode(data, &d)
	if err != nil {
		return nil, nil, err
	}
	if err := strict.Err(strict.Merge(errs, d.validate())); err != nil {
		return nil, nil, err
	}
	nodes := make(map[string]intent.Node, len(d.Nodes))
	for _, n := range d.Nodes {
		nodes[n.Name] = intent.Node(n)
	}
	services := make(map[intent.Name]intent.Service, len(d.Services))
	for _, s := range d.Services {
		services[s.name()] = s.intent()
	}
	return nodes, services, nil
}

func (s *service) name() intent.Name { return intent.Name{Namespace: s.Namespace, Name: s.Name} }

func (s *service) intent() intent.Service {
	out := intent.Service{Name: s.name(), ClusterIPs: s.ClusterIPs}
	for _, p := range s.Ports {
		sp := intent.ServicePort{Name: p.Name, Protocol: p.protocol(), Port: uint16(p.Port)}
		for _, b := range p.Backends {
			sp.Backends = append(sp.Backends, intent.Backend{
				Address: b.Address, Port: uint16(b.Port), Ready: b.Ready == nil || *b.Ready,
			})
		}
		out.Ports = append(out.Ports, sp)
	}
	return out
}

func (p *port) protocol() intent.Protocol {
	if p.Protocol == nil {
		return intent.TCP
	}
	return *p.Protocol
}
