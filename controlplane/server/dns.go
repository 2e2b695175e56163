// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"log/slog"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/waggle-net/waggle/controlplane/dns/publish"
)

// runDNSPublisher keeps the cluster's DNS service pointing at the nodes.
func runDNSPublisher(ctx context.Context, o *Options, loopback *rest.Config, log *slog.Logger, ready func()) error {
	client, err := kubernetes.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	ready()
	return publish.Run(ctx, publish.Config{Client: client, ServiceIPs: o.DNSAddrs, Port: o.DNSPort, Log: log.With("component", dnsName)})
}
