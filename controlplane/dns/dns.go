// SPDX-License-Identifier: Apache-2.0

// Package dns is the cluster's DNS on one node: CoreDNS as a library.
//
// Every node answers for itself, on its own addresses and a port that is not 53; the
// EndpointSlices of the cluster DNS service (package publish) say where. Names of the
// cluster are answered as the Kubernetes DNS specification says, all others are
// forwarded to the nameservers that the node itself uses.
//
// CoreDNS is a program before it is a library: its list of plugins, its log and its
// metrics belong to the process. So one Run is possible at a time, one after the other.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// Config is what a node's DNS needs to know.
type Config struct {
	// Listen are the addresses to answer on, by UDP and TCP. Required.
	Listen []netip.AddrPort
	// Domain of the cluster. Optional: cluster.local.
	Domain string
	// PodCIDRs are the ranges of all pods of the cluster: they may ask. Required.
	PodCIDRs []netip.Prefix
	// ServiceCIDRs are the ranges of service addresses. A nameserver in them would be
	// this DNS again, and is not forwarded to. Required.
	ServiceCIDRs []netip.Prefix
	// NodeAddrs may ask, too. Listen's addresses, loopback, and the nodes that the
	// endpoints of the cluster DNS service name need not be listed. Optional.
	NodeAddrs []netip.Addr

	// Upstreams are the nameservers to forward to, each an address with or without
	// a port. Optional: those of ResolvConf.
	Upstreams []string
	// ResolvConf is followed while it changes. Optional: /etc/resolv.conf.
	ResolvConf string
	// Kubeconfig is the path of the kubeconfig to watch services with. Required.
	Kubeconfig string

	// Synced is called when the names of the cluster are known; until then they are
	// answered with SERVFAIL, which a resolver takes as: ask again. Optional.
	Synced func()
	// Log takes CoreDNS's log, too. Optional: slog's default.
	Log *slog.Logger

	// resolvedConf is where systemd-resolved writes the nameservers behind its stub.
	resolvedConf string
}

// running is the server that plugins are set up for: CoreDNS calls their setup
// functions without an argument that could say so.
var running atomic.Pointer[server]

// server is what the plugins of one Run share.
type server struct {
	Config
	cluster   cluster
	upstreams upstreams
}

// Run answers until ctx ends, and then returns nil. It calls ready once, as soon as it
// answers: the API server may be away.
func Run(ctx context.Context, c Config, ready func()) error {
	if err := c.complete(); err != nil {
		return err
	}
	s := &server{Config: c}
	if !running.CompareAndSwap(nil, s) {
		return errors.New("run cluster DNS: it runs already in this process, and CoreDNS allows it once: stop the other first")
	}
	defer running.Store(nil)
	defer redirectLog(c.Log)()
	return s.run(ctx, ready)
}

func (s *server) run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	follow, err := s.followNameservers(ctx)
	if err != nil {
		return err
	}
	defer follow.close()
	for _, a := range s.Listen {
		if err := probe(ctx, a); err != nil {
			return err
		}
	}
	defer s.cluster.stop()
	instance, err := start(s.Config)
	if err != nil {
		return fmt.Errorf("start cluster DNS: %w", err)
	}
	ready()

	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	synced := tick.C
	for {
		select {
		case <-ctx.Done():
			cancel() // ends what is being forwarded
			return stop(instance)
		case <-follow.changes():
			follow.read(ctx)
		case <-synced:
			if s.cluster.synced() {
				synced = nil
				s.Log.Info("cluster DNS knows the names of the cluster")
				s.Synced()
			}
		}
	}
}

// syncInterval is how often CoreDNS's informers, which announce nothing, are asked
// whether they have their first list.
const syncInterval = 100 * time.Millisecond

// start makes the process's CoreDNS ours, and starts it.
func start(c Config) (*caddy.Instance, error) {
	dnsserver.Directives = directives
	dnsserver.Quiet, caddy.Quiet = true, true // they print to stdout
	return caddy.Start(caddy.CaddyfileInput{
		Filepath:       "cluster DNS",
		Contents:       []byte(corefile(c)),
		ServerTypeName: "dns",
	})
}

// stop waits for the answers under way.
func stop(i *caddy.Instance) error {
	errs := i.ShutdownCallbacks()
	errs = append(errs, i.Stop())
	i.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop cluster DNS: %w", err)
	}
	return nil
}
