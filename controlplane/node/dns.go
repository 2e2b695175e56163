// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/waggle-net/waggle/controlplane/dns"
	"github.com/waggle-net/waggle/controlplane/health"
)

// runDNS answers for the cluster's DNS service on this node until ctx ends. It knows
// the cluster's names as the kubelet does, by the node's own identity.
func runDNS(ctx context.Context, o *Options, board *health.Board, log *slog.Logger) error {
	c := dns.Config{
		Domain:       o.Domain,
		PodCIDRs:     o.PodCIDRs,
		ServiceCIDRs: o.ServiceCIDRs,
		NodeAddrs:    o.Addrs,
		Upstreams:    o.Upstreams,
		Kubeconfig:   o.Layout.Kubeconfig(kubeletName),
		Log:          log.With("component", dnsName),
	}
	for _, a := range o.Addrs {
		c.Listen = append(c.Listen, netip.AddrPortFrom(a, o.DNSPort))
	}
	return dns.Run(ctx, c, func() { board.Set(dnsName, health.Ready, "") })
}
