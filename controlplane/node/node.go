// SPDX-License-Identifier: Apache-2.0

// Package node runs what each node needs of Kubernetes in one process: the kubelet and
// the cluster's DNS. It is a process of its own so that nothing that happens to a
// control plane on the same machine stops pods, or their names.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/layout"
)

// The components, as health reports call them.
const (
	kubeletName = "kubelet"
	dnsName     = "dns"
)

// Options are what a node is told. Every field is required unless it says otherwise;
// they have been validated where they were read.
type Options struct {
	Layout layout.Layout
	Name   string
	// Addrs are the node's addresses, the first of the primary family.
	Addrs []netip.Addr
	// PodCIDRs and ServiceCIDRs are those of the cluster.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	Domain                 string
	// DNSAddrs are the addresses of the cluster's DNS service, DNSPort is where this
	// node answers for it.
	DNSAddrs []netip.Addr
	DNSPort  uint16
	// Upstreams answer for names outside of the cluster. Default: those of ResolvConf.
	Upstreams []string
	// ResolvConf is the machine's own resolv.conf, one that does not name a stub on
	// the loopback device.
	ResolvConf string
	// CgroupDriver is systemd or cgroupfs, the same for containerd.
	CgroupDriver string
	// CgroupRoot is the cgroup that pods are below. Default: the root.
	CgroupRoot string
	// Labels are put on the Node when it registers. Default: none.
	Labels map[string]string
	// Taints are put on the Node when it registers, as key=value:Effect. Default: none.
	Taints []string
	// Kubelet is a KubeletConfiguration, as JSON, to lay over ours. Default: none.
	Kubelet []byte
}

// Run runs a node until ctx ends or a part of it fails. Pods stay as they are.
func Run(ctx context.Context, o Options, board *health.Board, log *slog.Logger) error {
	board.Set(dnsName, health.Starting, "")
	board.Set(kubeletName, health.Starting, "")
	config, err := kubeletConfig(&o)
	if err != nil {
		board.Set(kubeletName, health.Failed, err.Error())
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return part(ctx, dnsName, board, runDNS(ctx, &o, board, log)) })
	g.Go(func() error { return part(ctx, kubeletName, board, runKubelet(ctx, &o, config)) })
	g.Go(func() error { return watchKubelet(ctx, board, log) })
	g.Go(func() error { return serveDNSMetrics(ctx) })
	return g.Wait()
}

// part is what a component ended with, as the process's end.
func part(ctx context.Context, name string, board *health.Board, err error) error {
	if ctx.Err() != nil {
		board.Set(name, health.Stopped, "")
		return nil
	}
	if err == nil {
		err = errors.New("it returned without an error")
	}
	board.Set(name, health.Failed, err.Error())
	return fmt.Errorf("%s ended: %w", name, err)
}
