// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/node"
)

func nodeCommand() *cobra.Command {
	var path, driver string
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run the kubelet and the cluster's DNS",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if driver != "systemd" && driver != "cgroupfs" {
				return fmt.Errorf("--cgroup-driver %q: use systemd or cgroupfs", driver)
			}
			return process(cmd, "node", path, func(ctx context.Context, c *config.Config, board *health.Board, log *slog.Logger) error {
				o, err := nodeOptions(c, driver)
				if err != nil {
					return err
				}
				return node.Run(ctx, o, board, log)
			})
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration that waggle-kube wrote")
	cmd.Flags().StringVar(&driver, "cgroup-driver", "cgroupfs", "who makes the pods' cgroups: systemd or cgroupfs")
	return cmd
}

// nodeOptions is what a node needs of the configuration.
func nodeOptions(c *config.Config, driver string) (node.Options, error) {
	o := node.Options{
		Layout:       c.Layout(),
		Name:         c.NodeName,
		Addrs:        c.NodeIPs,
		PodCIDRs:     c.PodCIDRs,
		ServiceCIDRs: c.ServiceCIDRs,
		Domain:       c.ClusterDomain,
		DNSAddrs:     c.DNS.Addresses,
		DNSPort:      uint16(c.DNS.Port),
		Upstreams:    c.DNS.Upstreams,
		ResolvConf:   node.ResolvConf(),
		CgroupDriver: driver,
		CgroupRoot:   c.Kubelet.CgroupRoot,
		Labels:       c.Kubelet.Labels,
	}
	for _, t := range c.Kubelet.Taints {
		o.Taints = append(o.Taints, t.String())
	}
	if len(c.Kubelet.Config) != 0 {
		var err error
		if o.Kubelet, err = json.Marshal(c.Kubelet.Config); err != nil {
			return node.Options{}, fmt.Errorf("kubelet.config: %w", err)
		}
	}
	return o, nil
}
