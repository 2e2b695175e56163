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
	stdmaps "maps"
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

	mu      sync.Mutex
	node    []netip.Addr
	settled map[device]bool // by this daemon; false where it failed
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
	var now []device
	for _, l := range links {
		if devices[l.Attrs().Index] {
			now = append(now, device{l.Attrs().Name, l.Attrs().Index})
		}
	}
	errs = append(errs, m.settle(now))
	if len(now) == 0 && len(m.node) > 0 {
		errs = append(errs, fmt.Errorf("serve node ports at %v: %w", m.node, ErrNoDevice))
	}
	return errors.Join(errs...)
}

// device is one by which the node is reached.
type device struct {
	name  string
	index int
}

// settle puts this daemon's program on the devices, also in the place of the one that a
// daemon before it left there. The others are looked through where anything changed.
func (m *Manager) settle(now []device) error {
	var errs []error
	settled := make(map[device]bool)
	for _, d := range now {
		err := m.attach(d)
		settled[d] = err == nil
		errs = append(errs, err)
	}
	if m.settled == nil || !stdmaps.Equal(settled, m.settled) {
		err := m.programs.SweepUplinks(func(name string) bool {
			return slices.ContainsFunc(now, func(d device) bool { return d.name == name })
		})
		errs = append(errs, err)
		if err != nil {
			settled = nil // so that it is done again
		}
	}
	m.settled = settled
	return errors.Join(errs...)
}

func (m *Manager) attach(d device) error {
	found := errNew
	if m.settled[d] {
		if found = m.programs.CheckUplink(d.name, d.index); found == nil {
			return nil
		}
	}
	if err := m.programs.AttachUplink(d.name, d.index); err != nil {
		return err
	}
	m.log.Info("attached", "program", "from_network", "to", d.name, "because", found)
	return nil
}

// errNew is why a program is attached where nothing is wrong.
var errNew = errors.New("new to this daemon")

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
