// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"sync"

	"github.com/waggle-net/waggle/datapath/intent"
)

// dirty is what is to be looked at again. The handlers of the informers write
// it, the loop empties it.
type dirty struct {
	mu sync.Mutex
	names
	c chan struct{} // receives when there may be something
}

// names are those of objects whose entries may not be right any more.
type names struct {
	nodes          map[string]struct{}
	pods, services map[intent.Name]struct{}
}

func newDirty() *dirty {
	d := &dirty{c: make(chan struct{}, 1)}
	d.take()
	return d
}

// take returns what is dirty, and forgets it.
func (d *dirty) take() names {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.names
	d.names = names{map[string]struct{}{}, map[intent.Name]struct{}{}, map[intent.Name]struct{}{}}
	return taken
}

// touch notes that an object came, changed or went.
func (s *Source) touch(obj any) {
	d := s.dirty
	d.mu.Lock()
	defer d.mu.Unlock()
	switch o := obj.(type) {
	case *node:
		d.nodes[o.intent.Name] = struct{}{}
		s.own.see(o.intent)
	case *pod:
		d.pods[o.name] = struct{}{}
	case *service:
		d.services[o.name] = struct{}{}
	case *slice:
		d.services[o.of()] = struct{}{}
	}
	select {
	case d.c <- struct{}{}:
	default: // already told
	}
}

// apply makes the tables right where they may not be.
func (s *Source) apply(state *intent.State) {
	changed := s.dirty.take()
	for name := range changed.nodes {
		if n, ok := get[*node](s.nodes, name); ok {
			state.Nodes.Set(name, n.intent)
		} else {
			state.Nodes.Delete(name)
		}
	}
	for name := range changed.pods {
		if p, ok := get[*pod](s.pods, name.String()); ok && !p.finished {
			state.Pods.Set(name, p.intent)
		} else {
			state.Pods.Delete(name)
		}
	}
	for name := range changed.services {
		if svc, ok := get[*service](s.services, name.String()); ok && len(svc.intent.ClusterIPs) > 0 {
			state.Services.Set(name, join(svc, s.slicesOf(name.String())))
		} else {
			state.Services.Delete(name)
		}
	}
	if _, ok := changed.services[serversName]; ok {
		s.tellServers()
	}
}

func (s *Source) tellServers() {
	now := servers(s.slicesOf(serversName.String()))
	if s.cfg.Servers == nil || len(now) == 0 || slices.Equal(now, s.servers) {
		return
	}
	s.servers = now
	s.cfg.Servers(slices.Clone(now))
}
