// SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unreachableRoute ends what is sent to an address of a pod CIDR that no pod
// has. Without it the packet would follow the default route to a router, which
// routes the pod CIDR back to this node, until its time to live is over.
func unreachableRoute(cidr netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(cidr), Type: unix.RTN_UNREACHABLE, Table: unix.RT_TABLE_MAIN, Protocol: Protocol}
}

// syncUnreachable leaves exactly one unreachable route of ours per pod CIDR.
func (m *Manager) syncUnreachable(context.Context) error {
	present, err := ours()
	if err != nil {
		return err
	}
	missing := make(map[netip.Prefix]*netlink.Route)
	for _, p := range masked(m.cfg.PodCIDRs) {
		missing[p] = unreachableRoute(p)
	}
	var errs []error
	for i := range present {
		r := &present[i]
		dst := destination(r)
		if want := missing[dst]; want != nil && sameRoute(r, want) {
			delete(missing, dst)
		} else if r.Type == unix.RTN_UNREACHABLE {
			m.log.Info("deleting stale route", "route", describe(r))
			errs = append(errs, deleteRoute(r))
		}
	}
	for _, r := range missing {
		changed, err := addRoute(r)
		if changed {
			m.log.Info("added route", "route", describe(r))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeRoutes removes all routes of ours, and the neighbour entries that go
// with those to local pods.
func (m *Manager) removeRoutes(context.Context) error {
	present, err := ours()
	if err != nil {
		return err
	}
	var errs []error
	for i := range present {
		r := &present[i]
		if dst := destination(r); r.Type == unix.RTN_UNICAST && r.Gw == nil && dst.IsSingleIP() {
			errs = append(errs, deleteNeighbour(r.LinkIndex, dst.Addr()))
		}
		errs = append(errs, deleteRoute(r))
	}
	return errors.Join(errs...)
}
