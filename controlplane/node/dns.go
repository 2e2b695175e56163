// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waggle-net/waggle/controlplane/dns"
	"github.com/waggle-net/waggle/controlplane/health"
)

// dnsMetricsAddr is where CoreDNS's metrics are, at the port that they have
// everywhere. On the loopback device only, for they are served to anybody.
const dnsMetricsAddr = "127.0.0.1:9153"

// serveDNSMetrics serves them until ctx ends. The kubelet's port has the kubelet's.
func serveDNSMetrics(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", dnsMetricsAddr)
	if err != nil {
		return fmt.Errorf("serve metrics of DNS: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(dns.Gatherer(), promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics of DNS: %w", err)
	}
	return nil
}

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
