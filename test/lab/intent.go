// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Service is a service for RenderIntent.
type Service struct {
	Namespace  string // default "default"
	Name       string
	ClusterIPs []netip.Addr
	Ports      []ServicePort
}

// ServicePort is one port of a service with its backends.
type ServicePort struct {
	Name     string
	Protocol string // default TCP
	Port     uint16
	Backends []Backend
}

// Backend is one address behind a service port.
type Backend struct {
	netip.AddrPort
	NotReady bool
}

// PodBackends returns the port of each pod in both families as ready backends.
func PodBackends(port uint16, pods ...*Pod) []Backend {
	var backends []Backend
	for _, p := range pods {
		for _, ip := range p.IPs {
			backends = append(backends, Backend{AddrPort: netip.AddrPortFrom(ip, port)})
		}
	}
	return backends
}

// RenderIntent returns an intent document with all nodes of the lab and the given
// services, for WriteIntent.
func (l *Lab) RenderIntent(services ...Service) string {
	var b strings.Builder
	b.WriteString("apiVersion: waggle.dev/v1alpha1\nkind: Intent\nnodes:\n")
	for _, h := range l.nodes {
		fmt.Fprintf(&b, "- name: %s\n  addresses: %s\n  podCIDRs: %s\n", h.Name, flowList(h.Addrs()), flowList(h.PodCIDRs))
	}
	if len(services) == 0 {
		b.WriteString("services: []\n")
		return b.String()
	}
	b.WriteString("services:\n")
	for _, s := range services {
		s.render(&b)
	}
	return b.String()
}

func (s Service) render(b *strings.Builder) {
	fmt.Fprintf(b, "- namespace: %s\n  name: %s\n  clusterIPs: %s\n  ports:\n",
		orDefault(s.Namespace, "default"), s.Name, flowList(s.ClusterIPs))
	for _, p := range s.Ports {
		fmt.Fprintf(b, "  - name: %q\n    protocol: %s\n    port: %d\n", p.Name, orDefault(p.Protocol, "TCP"), p.Port)
		if len(p.Backends) == 0 {
			b.WriteString("    backends: []\n")
			continue
		}
		b.WriteString("    backends:\n")
		for _, e := range p.Backends {
			fmt.Fprintf(b, "    - {address: %q, port: %d, ready: %v}\n", e.Addr(), e.Port(), !e.NotReady)
		}
	}
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
