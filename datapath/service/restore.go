// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/waggle-net/waggle/datapath/intent"
	dmaps "github.com/waggle-net/waggle/datapath/maps"
)

// restore rebuilds the Manager's books from the maps alone.
func (m *Manager) restore() (err error) {
	if m.numbers, err = restoreNumbers(m.set.Backends); err != nil {
		return err
	}
	slots, err := m.set.Slots.GetAll()
	if err != nil {
		return err
	}
	var used []extent
	walk, walkErr := m.set.Frontends.All()
	for k, v := range walk {
		r := region{extent: extent{v.Offset, v.Count}, generation: v.Generation}
		if uint64(v.Offset)+uint64(v.Count) > uint64(len(slots)) {
			// Not ours to follow; Prune or Apply writes it anew.
			r.extent = extent{}
			m.programmed[addressOf(k)] = r
			continue
		}
		r.backends = slices.Clone(slots[v.Offset:r.end()])
		for i, id := range r.backends {
			if int(id) >= len(m.numbers.holder) || !m.numbers.holder[id].taken {
				r.backends[i] = 0 // nobody: the region is never taken for right
			}
			m.numbers.use(r.backends[i])
		}
		used = append(used, r.extent)
		m.generation = max(m.generation, v.Generation)
		m.programmed[addressOf(k)] = r
	}
	m.regions = newRegions(uint32(len(slots)), used)
	return walkErr()
}

// Prune removes what no service wants. To be called once every service is known.
func (m *Manager) Prune() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	unwanted := make(map[Address]struct{})
	for a := range m.programmed {
		if len(m.claims[a]) == 0 {
			unwanted[a] = struct{}{}
		}
	}
	if len(unwanted) > 0 {
		m.log.Info("services removed that went while the daemon was away", "frontends", len(unwanted))
	}
	return m.program(unwanted)
}

// Repair tries again what failed, and puts back what others changed in the
// maps. It returns what it found changed, apart from what it could not mend.
func (m *Manager) Repair() (drift []error, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	again := make(map[Address]struct{})
	for a := range m.failed {
		again[a] = struct{}{}
	}
	wanted := make(map[dmaps.FrontendKey]dmaps.Frontend, len(m.programmed))
	for a, r := range m.programmed {
		wanted[a.frontendKey()] = r.value(a)
	}
	diff, err := dmaps.Reconcile(m.set.Frontends, wanted)
	errs := []error{err}
	if diff != (dmaps.Difference{}) {
		drift = append(drift, fmt.Errorf("frontends map: %d entries were changed and %d added by somebody else", diff.Updated, diff.Deleted))
	}
	slotDrift, err := m.repairSlots()
	drift, errs = append(drift, slotDrift...), append(errs, err)
	return drift, errors.Join(append(errs, m.program(again))...)
}

// repairSlots compares slots and backends with the books.
func (m *Manager) repairSlots() (drift []error, err error) {
	slots, err := m.set.Slots.GetAll()
	if err != nil {
		return nil, err
	}
	backends, err := m.set.Backends.GetAll()
	if err != nil {
		return nil, err
	}
	var errs []error
	for a, r := range m.programmed {
		if !slices.Equal(slots[r.first:r.end()], r.backends) {
			drift = append(drift, fmt.Errorf("slots of %s were changed by somebody else", a))
			errs = append(errs, m.set.Slots.SetAll(r.first, r.backends))
		}
	}
	for a, id := range m.numbers.ids {
		if backends[id] != a.backend() {
			drift = append(drift, fmt.Errorf("backend %d (%s) was changed by somebody else", id, a))
			errs = append(errs, m.set.Backends.Set(id, a.backend()))
		}
	}
	return drift, errors.Join(errs...)
}

// View is one frontend as the operator sees it.
type View struct {
	Address  Address
	Service  intent.Name
	Backends []Address // ready ones
	Known    int       // ready or not
}

// Views returns every programmed frontend, in order.
func (m *Manager) Views() []View {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]View, 0, len(m.programmed))
	for a, r := range m.programmed {
		fe, name, _ := m.owner(a)
		v := View{Address: a, Service: name, Known: fe.Known}
		for _, id := range r.backends {
			v.Backends = append(v.Backends, m.numbers.holder[id].backend)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b View) int {
		return cmp.Or(a.Service.Compare(b.Service), a.Address.Compare(b.Address))
	})
	return out
}

// Problems returns what keeps services from being served as they ask, in order.
func (m *Manager) Problems() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []error
	for _, name := range slices.SortedFunc(maps.Keys(m.problems), intent.Name.Compare) {
		out = append(out, m.problems[name]...)
	}
	for _, a := range slices.SortedFunc(maps.Keys(m.failed), Address.Compare) {
		out = append(out, m.failed[a])
	}
	for _, a := range slices.SortedFunc(maps.Keys(m.claims), Address.Compare) {
		if _, first, _ := m.owner(a); len(m.claims[a]) > 1 {
			out = append(out, fmt.Errorf("%s is claimed by %d services: it leads to %s", a, len(m.claims[a]), first))
		}
	}
	return out
}
