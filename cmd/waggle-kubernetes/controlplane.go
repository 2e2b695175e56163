// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/server"
)

func controlPlaneCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "control-plane",
		Short: "Run etcd, the API server, the controller-manager and the scheduler",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return process(cmd, "control-plane", path, func(ctx context.Context, c *config.Config, board *health.Board, log *slog.Logger) error {
				return server.Run(ctx, serverOptions(c), board, log)
			})
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration that waggle-kube wrote")
	return cmd
}

// serverOptions is what the control plane needs of the node's configuration.
func serverOptions(c *config.Config) server.Options {
	o := server.Options{
		Layout:       c.Layout(),
		NodeName:     c.NodeName,
		Addrs:        c.NodeIPs,
		Port:         uint16(c.APIServer.Port),
		PodCIDRs:     c.PodCIDRs,
		ServiceCIDRs: c.ServiceCIDRs,
		NodeMaskIPv4: c.NodeCIDRMaskSizes.IPv4,
		NodeMaskIPv6: c.NodeCIDRMaskSizes.IPv6,
		NodePorts:    c.APIServer.ServiceNodePorts.String(),
		Domain:       c.ClusterDomain,
		DNSAddrs:     c.DNS.Addresses,
		DNSPort:      uint16(c.DNS.Port),

		SigningDuration: c.Certificates.Validity.Duration,
		Etcd:            server.EtcdOptions{Heartbeat: 100 * time.Millisecond, Election: time.Second, Quota: int64(c.Etcd.QuotaBytes)},
		Flags: server.ExtraFlags{
			Etcd: c.Components.Etcd, APIServer: c.Components.APIServer,
			ControllerManager: c.Components.ControllerManager, Scheduler: c.Components.Scheduler,
		},
	}
	if c.Etcd.Profile == config.EtcdSlowDisk {
		o.Etcd.Heartbeat, o.Etcd.Election = 500*time.Millisecond, 5*time.Second
	}
	if s := c.Snapshots; s.Interval.Duration > 0 {
		o.Snapshots = &server.SnapshotOptions{Dir: s.Dir, Every: s.Interval.Duration, Keep: s.Keep}
	}
	if a := c.Audit; a.Enabled {
		o.Audit = &server.AuditOptions{
			Policy: a.PolicyFile, Path: a.Path, MaxAge: a.MaxAgeDays, MaxBackups: a.MaxBackups, MaxSize: a.MaxSizeMB,
		}
	}
	return o
}
