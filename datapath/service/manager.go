// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/waggle-net/waggle/datapath/intent"
	dmaps "github.com/waggle-net/waggle/datapath/maps"
)

// Manager keeps the service maps as the services want them. Changing one
// service touches its own frontends alone.
type Manager struct {
	mu  sync.Mutex
	set *dmaps.Set
	log *slog.Logger

	numbers    *numbers
	regions    *regions
	generation uint32
	programmed map[Address]region                   // what the kernel holds
	compiled   map[intent.Name][]Frontend           // what each service wants
	claims     map[Address]map[intent.Name]Frontend // who wants an address
	failed     map[Address]error                    // to be tried again
	problems   map[intent.Name][]error              // from compiling
	garbage    []region                             // unlinked, maybe being read
	node       []netip.Addr                         // where node ports are served
}

// region is the slots of one frontend.
type region struct {
	extent
	generation uint32
	backends   []uint32 // the slots' content
}

// NewManager takes over what the maps hold. Nothing of it is removed before
// Prune: services that are not known yet keep working.
func NewManager(set *dmaps.Set, log *slog.Logger) (*Manager, error) {
	m := &Manager{
		set: set, log: log,
		programmed: make(map[Address]region),
		compiled:   make(map[intent.Name][]Frontend),
		claims:     make(map[Address]map[intent.Name]Frontend),
		failed:     make(map[Address]error),
		problems:   make(map[intent.Name][]error),
	}
	if err := m.restore(); err != nil {
		return nil, fmt.Errorf("read service maps back: %w", err)
	}
	return m, nil
}

// Apply takes in changed services: nil where one was deleted. What fails is
// kept and tried again by Repair; the rest is programmed.
func (m *Manager) Apply(changes map[intent.Name]*intent.Service) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	touched := make(map[Address]struct{})
	for name, svc := range changes {
		m.takeIn(name, svc, touched)
	}
	return m.program(touched)
}

// SetNode says at which addresses node ports are served: those of this node. It
// holds for services that are applied from then on, so all have to be.
func (m *Manager) SetNode(addrs []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.node = slices.Clone(addrs)
}

// takeIn records what one service wants from now on.
func (m *Manager) takeIn(name intent.Name, svc *intent.Service, touched map[Address]struct{}) {
	for _, fe := range m.compiled[name] {
		touched[fe.Address] = struct{}{}
		delete(m.claims[fe.Address], name)
		if len(m.claims[fe.Address]) == 0 {
			delete(m.claims, fe.Address)
		}
	}
	delete(m.compiled, name)
	delete(m.problems, name)
	if svc == nil {
		return
	}
	fes, problems := Compile(svc, m.node)
	if len(problems) > 0 {
		m.problems[name] = problems
	}
	m.compiled[name] = fes
	for _, fe := range fes {
		touched[fe.Address] = struct{}{}
		if m.claims[fe.Address] == nil {
			m.claims[fe.Address] = make(map[intent.Name]Frontend)
		}
		m.claims[fe.Address][name] = fe
	}
}

// owner is the service that an address leads to: of several, the first by name,
// so that every node and every restart decides alike.
func (m *Manager) owner(a Address) (Frontend, intent.Name, bool) {
	claims := m.claims[a]
	if len(claims) == 0 {
		return Frontend{}, intent.Name{}, false
	}
	name := slices.MinFunc(slices.Collect(maps.Keys(claims)), intent.Name.Compare)
	return claims[name], name, true
}

// program makes the kernel agree at the given addresses. In order, so that a
// full map always hits the same ones.
func (m *Manager) program(touched map[Address]struct{}) error {
	var errs []error
	for _, a := range slices.SortedFunc(maps.Keys(touched), Address.Compare) {
		err := m.programOne(a)
		if errors.Is(err, errNoRegion) || isFull(err) {
			// What was unlinked just now may be all that is missing.
			err = errors.Join(m.collect(), m.programOne(a))
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("program frontend %s: %w", a, err), m.shrink(a))
			m.failed[a] = err
			errs = append(errs, err)
			continue
		}
		delete(m.failed, a)
	}
	return errors.Join(append(errs, m.collect())...)
}

// shrink is for an address whose new backends do not fit: at least the ones that
// are gone must not be led to any more.
func (m *Manager) shrink(a Address) error {
	old, existed := m.programmed[a]
	fe, _, wanted := m.owner(a)
	if !existed || !wanted {
		return nil
	}
	left := fe
	left.Backends = nil
	for _, b := range fe.Backends {
		if id, ok := m.numbers.ids[b]; ok && slices.Contains(old.backends, id) {
			left.Backends = append(left.Backends, b)
		}
	}
	if err := m.link(left); err == nil {
		return nil
	}
	left.Backends = nil // needs no room
	if err := m.link(left); err != nil {
		return fmt.Errorf("shrink frontend %s: %w", a, err)
	}
	return nil
}

func isFull(err error) bool {
	var full *dmaps.FullError
	return errors.As(err, &full)
}

func (m *Manager) programOne(a Address) error {
	fe, _, ok := m.owner(a)
	if !ok {
		return m.unlink(a)
	}
	return m.link(fe)
}

// unlink removes a frontend. Its region is read until a grace period is over.
func (m *Manager) unlink(a Address) error {
	if err := m.set.Frontends.Delete(a.frontendKey()); err != nil {
		return err
	}
	if old, ok := m.programmed[a]; ok {
		m.garbage = append(m.garbage, old)
		delete(m.programmed, a)
	}
	return nil
}

// link points a frontend at its backends: a new region, complete before the
// one value flips.
func (m *Manager) link(fe Frontend) (err error) {
	old, existed := m.programmed[fe.Address]
	if existed && m.leadsTo(old, fe.Backends) {
		return nil
	}
	var r region
	defer func() {
		if err != nil {
			m.abandon(r)
		}
	}()
	for _, b := range fe.Backends {
		id, err := m.numbers.acquire(b)
		if err != nil {
			return err
		}
		r.backends = append(r.backends, id)
	}
	if n := uint32(len(r.backends)); n > 0 {
		first, err := m.regions.take(n)
		if err != nil {
			return fmt.Errorf("%w: raise maps.slots (%d)", err, m.set.Slots.Len())
		}
		r.extent = extent{first, n}
	}
	if m.generation++; m.generation == 0 {
		m.generation = 1 // 0 is what a reader takes for a torn value
	}
	r.generation = m.generation
	if err := m.set.Slots.SetAll(r.first, r.backends); err != nil {
		return err
	}
	if err := m.set.Frontends.Update(fe.frontendKey(), r.value(fe.Address)); err != nil {
		return err
	}
	m.programmed[fe.Address] = r
	if existed {
		m.garbage = append(m.garbage, old)
	}
	return nil
}

func (r region) value(a Address) dmaps.Frontend {
	return dmaps.Frontend{
		Offset: r.first, Count: r.count, Generation: r.generation,
		Check: dmaps.FrontendCheck(a.frontendKey()),
	}
}

// leadsTo says whether a region's slots are these backends, in any order.
func (m *Manager) leadsTo(r region, backends []Address) bool {
	if len(r.backends) != len(backends) {
		return false
	}
	for _, b := range backends {
		id, ok := m.numbers.ids[b]
		if !ok || !slices.Contains(r.backends, id) {
			return false
		}
	}
	return true
}

// abandon gives back what a failed link had taken; no program knows of it.
func (m *Manager) abandon(r region) {
	m.regions.give(r.extent)
	for _, id := range r.backends {
		m.numbers.release(id)
	}
}

// collect frees what was unlinked, once no program can be reading it.
func (m *Manager) collect() error {
	if len(m.garbage) == 0 && len(m.numbers.idle) == 0 {
		return nil
	}
	if err := m.set.Grace(); err != nil {
		return err
	}
	for _, r := range m.garbage {
		m.abandon(r)
	}
	m.garbage = nil
	return m.numbers.collect()
}
