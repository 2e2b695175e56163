// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/waggle-net/waggle/cni/ipam"
	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/cni/store"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

// state is the node's endpoints, in memory and in the store. Each method is one
// transaction: first the store, then memory, so that a failed or interrupted
// write changes neither.
type state struct {
	store *store.Store
	held  func(netip.Addr) bool
	now   func() time.Duration

	mu      sync.Mutex
	pools   []*ipam.Pool // IPv4 first
	records map[string]store.Record
	ids     [endpoint.MaxID + 1]bool
}

// load reads the store. Addresses outside of the pod CIDRs belong to endpoints
// from before a change: they stay, and are given as strays to be reported.
func (s *state) load(prefixes []netip.Prefix, rest time.Duration) (strays []store.Record, err error) {
	records, released, err := s.store.Load()
	if err != nil {
		return nil, err
	}
	prefixes = slices.SortedFunc(slices.Values(prefixes), func(a, b netip.Prefix) int {
		return cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen())
	})
	for _, p := range prefixes {
		pool, err := ipam.New(p, rest)
		if err != nil {
			return nil, err
		}
		s.pools = append(s.pools, pool)
	}
	if err := s.loadReleased(released, rest); err != nil {
		return nil, err
	}
	s.records = map[string]store.Record{}
	for _, r := range records {
		s.records[r.Attachment().Key()] = r
		s.ids[r.Spec.ID] = true
		stray := false
		for _, a := range r.Spec.Addresses {
			pool := s.pool(a)
			stray = stray || pool == nil
			if pool != nil {
				pool.Take(a)
			}
		}
		if stray {
			strays = append(strays, r)
		}
	}
	return strays, nil
}

func (s *state) loadReleased(released []store.Released, rest time.Duration) error {
	slices.SortStableFunc(released, func(a, b store.Released) int { return cmp.Compare(a.At, b.At) })
	now := s.now()
	var forget []store.Released
	for _, r := range released {
		switch pool := s.pool(r.Addr); {
		case pool != nil:
			// A time to come cannot be right: let it rest once more, not for ever.
			pool.Release(r.Addr, min(r.At, now))
		case now-r.At >= rest:
			forget = append(forget, r)
		}
	}
	return s.store.Forget(forget)
}

// pool gives the pool that may give out an address, or nil.
func (s *state) pool(a netip.Addr) *ipam.Pool {
	for _, p := range s.pools {
		if p.Allocates(a) {
			return p
		}
	}
	return nil
}

// create decides what a new endpoint is made of and writes it down. Errors are
// store.ErrExists, ErrNoID, ipam.ErrExhausted, *ipam.RestingError, or about the file.
func (s *state) create(req *protocol.Request, mtu int) (store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.records[req.Key()]; ok {
		return store.Record{}, store.ErrExists
	}
	spec, err := s.plan(req, mtu)
	if err != nil {
		return store.Record{}, err
	}
	r := store.Record{Network: req.Network, State: store.Creating, Created: time.Now().UTC(), Spec: spec}
	if err := s.store.Create(r); err != nil {
		return store.Record{}, err
	}
	for _, a := range spec.Addresses {
		s.pool(a).Take(a)
	}
	s.ids[spec.ID] = true
	s.records[req.Key()] = r
	return r, nil
}

// plan takes nothing yet.
func (s *state) plan(req *protocol.Request, mtu int) (endpoint.Spec, error) {
	spec := endpoint.Spec{
		ContainerID: req.ContainerID, IfName: req.IfName, HostIfName: req.HostIfName(),
		PodNamespace: req.Pod.Namespace, PodName: req.Pod.Name, PodUID: req.Pod.UID,
		PodMAC: randomMAC(), HostMAC: randomMAC(),
		MTU: mtu, NetNS: req.NetNS,
	}
	for _, r := range s.records {
		// Twelve digits of a hash can meet, if only once in a very long time.
		if r.Spec.HostIfName == spec.HostIfName {
			return spec, fmt.Errorf("host device name %s is taken by %s", spec.HostIfName, r.Attachment().Key())
		}
	}
	id := slices.Index(s.ids[1:], false) + 1
	if id == 0 {
		return spec, fmt.Errorf("%w (%d)", ErrNoID, endpoint.MaxID)
	}
	spec.ID = uint32(id)
	now := s.now()
	for _, p := range s.pools {
		a, err := p.Next(now, s.held)
		if err != nil {
			return spec, fmt.Errorf("pod CIDR %s: %w", p.Prefix(), err)
		}
		spec.Addresses = append(spec.Addresses, a)
	}
	return spec, nil
}

// ready marks an endpoint as built.
func (s *state) ready(a protocol.Attachment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store.Ready(a); err != nil {
		return err
	}
	r := s.records[a.Key()]
	r.State = store.Ready
	s.records[a.Key()] = r
	return nil
}

// release forgets an endpoint and lets its addresses rest.
func (s *state) release(a protocol.Attachment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if err := s.store.Release(a, now); err != nil {
		return err
	}
	r := s.records[a.Key()]
	for _, addr := range r.Spec.Addresses {
		if pool := s.pool(addr); pool != nil {
			pool.Release(addr, now)
		}
	}
	s.ids[r.Spec.ID] = false
	delete(s.records, a.Key())
	return nil
}

func (s *state) get(a protocol.Attachment) (store.Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[a.Key()]
	return r, ok
}

// list gives all records by endpoint number.
func (s *state) list() []store.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]store.Record, 0, len(s.records))
	for _, r := range s.records {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b store.Record) int { return cmp.Compare(a.Spec.ID, b.Spec.ID) })
	return out
}

// randomMAC gives a unicast, locally administered address.
func randomMAC() endpoint.MAC {
	m := make(endpoint.MAC, 6)
	rand.Read(m) // never fails
	m[0] = m[0]&^1 | 2
	return m
}
