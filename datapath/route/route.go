// SPDX-License-Identifier: Apache-2.0

// Package route writes what the kernel itself routes around our programs:
// forwarding, the routes of pod CIDRs and of local pods, and masquerade.
//
//	$ ip route show proto 119            # and ip -6
//	unreachable 10.244.1.0/24            an address of no pod goes nowhere
//	10.244.1.7 dev wgl7 scope link       the node's own packets to a pod
//	$ ip neighbour show nud permanent
//	10.244.1.7 dev wgl7 lladdr 02:...    so that nobody asks the pod by ARP or ND
//	$ nft list table inet waggle         pods to the world, as the node
//
// Everything happens in the network namespace of the calling thread. What is
// ours is known by the routes' protocol number and the table's name; nothing
// else is ever changed or removed, but for two kinds of sysctl (see forwarding.go).
// No rp_filter is loosened: the packets of a pod come in where its host route
// points, which is what strict filtering asks for.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
)

// Config is what the kernel should route. Prefixes need not be sorted and may
// overlap; an empty Config is valid and wants nothing.
type Config struct {
	// PodCIDRs are this node's own. A family with none is left alone: it is not
	// forwarded and not masqueraded.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are those of all pods and nodes that see pods under their own
	// addresses. PodCIDRs count as part of them.
	ClusterCIDRs []netip.Prefix
	// MasqueradeExclusions are destinations outside of the cluster that see pods
	// under their own addresses.
	MasqueradeExclusions []netip.Prefix
	// Masquerade gives pods the node's address towards any other destination.
	Masquerade bool
	// MTU is what Manager.MTU returns; 0 means that of the default route's device.
	MTU int
}

// Manager keeps the kernel's routing as its Config says. Its methods may run at
// the same time.
type Manager struct {
	cfg Config
	log *slog.Logger

	mu        sync.Mutex // also held while writing to the kernel
	endpoints map[netip.Addr]attachment
}

// New returns a Manager that has not changed anything yet.
func New(cfg Config, log *slog.Logger) *Manager {
	return &Manager{cfg: cfg, log: log, endpoints: make(map[netip.Addr]attachment)}
}

// Sync makes the kernel's state what it should be: it adds what is missing,
// repairs what something changed, and removes what an older configuration left
// behind. Where everything is right it changes nothing. A failure of one part
// leaves the others programmed; the error joins them.
//
// Endpoints are those that AddEndpoint was told of. One whose device has gone is
// forgotten, since its routes and neighbour entries went with it.
func (m *Manager) Sync(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return inOrder(ctx,
		m.syncUnreachable,
		m.syncEndpoints,
		m.syncMasquerade,
		// Last, so that the first packet forwarded meets all of the above.
		m.syncForwarding,
	)
}

// Cleanup removes every route, neighbour entry and table of ours, whoever wrote
// it. Forwarding stays on: containers and virtual machines of others may have
// come to need it since, and what it was before is not recorded anywhere.
func (m *Manager) Cleanup(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.endpoints)
	return inOrder(ctx, m.removeRoutes, m.removeMasquerade)
}

// inOrder runs all steps that the context leaves time for, and joins their errors.
func inOrder(ctx context.Context, steps ...func(context.Context) error) error {
	var errs []error
	for _, step := range steps {
		if err := context.Cause(ctx); err != nil {
			return errors.Join(append(errs, fmt.Errorf("write routing: %w", err))...)
		}
		errs = append(errs, step(ctx))
	}
	return errors.Join(errs...)
}

// masked returns the prefixes with their host bits zero, each once.
func masked(prefixes []netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	seen := make(map[netip.Prefix]bool)
	for _, p := range prefixes {
		if p = p.Masked(); p.IsValid() && !seen[p] {
			seen[p] = true
			list = append(list, p)
		}
	}
	return list
}
