// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waggle-net/waggle/datapath/intent"
)

const triedAgain = "see the message; it is tried again every 30 seconds"

// useNode follows this node's own addresses: node ports are served there.
func (d *Daemon) useNode(node *intent.Node) {
	if node == nil || slices.Equal(node.Addresses, d.nodeAddrs) {
		return
	}
	d.nodeAddrs = node.Addresses
	d.services.SetNode(node.Addresses)
	d.problems.set("uplink", d.uplink.Use(node.Addresses), triedAgain)
	d.log.Info("this node is reached at", "addresses", node.Addresses)
}

// checkRanges notices that the cluster has other ranges for this node's pods than
// those that are in use. Pods have addresses of these, so a running daemon keeps them.
func (d *Daemon) checkRanges(node *intent.Node) {
	if node == nil || len(node.PodCIDRs) == 0 || !d.rangesFromCluster {
		return
	}
	if sameRanges(node.PodCIDRs, d.cfg.PodCIDRs) {
		d.problems.set("ranges", nil, "")
		return
	}
	err := fmt.Errorf("the cluster gave this node the ranges %v, and its pods use %v", node.PodCIDRs, d.cfg.PodCIDRs)
	err = errors.Join(err, writeNode(d.cfg, &knownNode{Name: d.cfg.NodeName, PodCIDRs: node.PodCIDRs}))
	d.problems.set("ranges", err, "drain the node and restart waggled, which then uses the new ones")
}

func sameRanges(a, b []netip.Prefix) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(p netip.Prefix) bool { return !slices.Contains(b, p) })
}

// syncServices programs services as they and this node change. Nothing is written
// before every service is known: one without endpoints yet would refuse connections.
func (d *Daemon) syncServices(ctx context.Context) error {
	services, nodes := d.state.Services.Watch(), d.state.Nodes.Watch()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-services.C():
		case <-nodes.C():
		}
		before := d.nodeAddrs
		if changes, synced := nodes.Next(); synced {
			d.useNode(changes[d.cfg.NodeName])
			d.checkRanges(changes[d.cfg.NodeName])
		} else {
			continue // Next of services would take changes that come without the node
		}
		changes, synced := services.Next()
		if !synced {
			continue
		}
		if !slices.Equal(before, d.nodeAddrs) {
			changes = d.allServices(changes)
		}
		if err := d.publish(changes); err != nil {
			return err
		}
	}
}

// allServices adds those that did not change.
func (d *Daemon) allServices(changes map[intent.Name]*intent.Service) map[intent.Name]*intent.Service {
	all, _ := d.state.Services.Snapshot()
	for name, svc := range all {
		if _, ok := changes[name]; !ok {
			changes[name] = &svc
		}
	}
	return changes
}

// publish programs what changed. The first time is when all is known: then what is
// of no service goes, and the node may have pods.
func (d *Daemon) publish(changes map[intent.Name]*intent.Service) error {
	err := d.services.Apply(changes)
	if !d.isPublished() {
		err = errors.Join(err, d.services.Prune())
		if err := d.install(); err != nil {
			return err
		}
		close(d.published)
		d.log.Info("ready", "services", len(changes))
	}
	if err != nil {
		d.log.Warn("not all services are programmed", "error", err)
	}
	return nil
}
