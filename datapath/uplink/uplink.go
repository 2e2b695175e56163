// SPDX-License-Identifier: Apache-2.0

// Package uplink serves clients outside: it attaches the program for their packets
// to the devices by which the node is reached, and tells it which addresses are the
// node's own.
//
// Everything happens in the network namespace of the calling thread.
package uplink

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/datapath/maps"
	"github.com/waggle-net/waggle/internal/nl"
)

// ErrNoDevice says that no device has an address that the node is reached by.
var ErrNoDevice = errors.New("no device of this node has one of its addresses")

// Programs attaches to devices; *loader.Loader does.
type Programs interface {
	AttachUplink(name string, index int) error
	CheckUplink(name string, index int) error
	SweepUplinks(keep func(name string) bool) error
}

// Manager keeps programs and addresses as the node's devices are. Its methods may
// run at the same time.
type Manager struct {
	programs Programs
	addrs    maps.Table[maps.Addr, uint32]
	log      *slog.Logger

	mu   sync.Mutex
	node []netip.Addr
}

// New returns a Manager that has not changed anything yet.
func New(programs Programs, addrs maps.Table[maps.Addr, uint32], log *slog.Logger) *Manager {
	return &Manager{programs: programs, addrs: addrs, log: log}
}

// Use takes the addresses by which the node is reached, and does what Sync does.
func (m *Manager) Use(node []netip.Addr) error {
	m.mu.Lock()
	m.node = slices.Clone(node)
	m.mu.Unlock()
	return m.Sync()
}

// Sync attaches the program to each device that has one of the node's addresses,
// and takes it off all others. Where everything is right it changes nothing. Before
// the first Use, what a daemon before this one attached stays.
func (m *Manager) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node == nil {
		return nil
	}
	links, err := nl.LinkList()
	if err != nil {
		return fmt.Errorf("find uplinks: %w", err)
	}
	assigned, err := nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("find uplinks: %w", err)
	}
	own, devices := sort(m.node, assigned)
	// The addresses first: the program is to know them from its first packet on.
	desired := make(map[maps.Addr]uint32)
	for _, a := range own {
		desired[maps.AddrFrom(a)] = 1
	}
	_, err = maps.Reconcile(m.addrs, desired)
	errs := []error{err}
	names := make(map[string]bool)
	for _, l := range links {
		name, index := l.Attrs().Name, l.Attrs().Index
		if !devices[index] {
			continue
		}
		names[name] = true
		errs = append(errs, m.attach(name, index))
	}
	errs = append(errs, m.programs.SweepUplinks(func(name string) bool { return names[name] }))
	if len(names) == 0 && len(m.node) > 0 {
		errs = append(errs, fmt.Errorf("serve node ports at %v: %w", m.node, ErrNoDevice))
	}
	return errors.Join(errs...)
}

func (m *Manager) attach(name string, index int) error {
	found := m.programs.CheckUplink(name, index)
	if found == nil {
		return nil
	}
	if err := m.programs.AttachUplink(name, index); err != nil {
		return err
	}
	m.log.Info("attached", "program", "from_network", "to", name, "because", found)
	return nil
}

// sort says which of the assigned addresses are the node's towards others, and the
// devices, by index, of those by which it is reached.
func sort(node []netip.Addr, assigned []netlink.Addr) (own []netip.Addr, devices map[int]bool) {
	devices = make(map[int]bool)
	for _, a := range assigned {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		if !ok || addr.IsLoopback() || a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		own = append(own, addr)
		if slices.Contains(node, addr) {
			devices[a.LinkIndex] = true
		}
	}
	return own, devices
}
