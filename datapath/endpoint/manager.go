// SPDX-License-Identifier: Apache-2.0

// Package endpoint builds local pods' interfaces: devices, addresses, routes,
// programs and map entries.
//
// An endpoint is built in an order that leaves no gap: the device comes up when
// its programs are attached and pinned, and the map entries that let packets in
// are the first to go when it is taken away.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	stdmaps "maps"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/datapath/maps"
)

// ErrExists says that the pod has a device of that name already.
var ErrExists = errors.New("device exists")

// ErrGone says that an endpoint's device does not exist any more.
var ErrGone = errors.New("device is gone")

// Programs attaches the pod programs to devices; the loader does.
type Programs interface {
	// AttachNewPod is quick, AttachPod lasts; Settled says whether the latter was.
	AttachNewPod(device string, index int) error
	AttachPod(device string, index int) error
	Settled(device string, index int) bool
	DetachPod(device string) error
	CheckPod(device string, index int) error
	Sweep(keep func(device string) bool) error
}

// Router routes the node's own packets to endpoints; datapath/route does.
type Router interface {
	AddEndpoint(index int, addrs []netip.Addr, podMAC net.HardwareAddr) error
	DelEndpoint(index int, addrs []netip.Addr) error
	CheckEndpoint(index int, addrs []netip.Addr, podMAC net.HardwareAddr) error
}

// Manager builds and removes endpoints. Its methods may run at the same time
// for different endpoints; one endpoint's calls are for the caller to order.
type Manager struct {
	programs Programs
	router   Router
	maps     *maps.Set
	log      *slog.Logger
	added    chan struct{}
}

// New returns a Manager that builds with the given parts, all required.
func New(p Programs, r Router, m *maps.Set, log *slog.Logger) *Manager {
	return &Manager{programs: p, router: r, maps: m, log: log, added: make(chan struct{}, 1)}
}

// Add builds the endpoint with its pod side in netns, and returns when the
// first packet would meet everything. On error nothing is left.
func (m *Manager) Add(ctx context.Context, s *Spec, netns *os.File) (err error) {
	defer func() {
		if err != nil && !errors.Is(err, ErrExists) {
			err = errors.Join(err, m.Delete(context.WithoutCancel(ctx), s))
		}
	}()
	if err := m.clearMarks(s.ID); err != nil {
		return err
	}
	index, err := createVeth(s, netns)
	if err != nil {
		return err
	}
	if err := configureHost(s); err != nil {
		return err
	}
	if err := m.programs.AttachNewPod(s.HostIfName, index); err != nil {
		return err
	}
	if err := configurePod(s, netns); err != nil {
		return fmt.Errorf("configure %s in pod: %w", s.IfName, err)
	}
	if err := m.publish(s, index); err != nil {
		return err
	}
	select {
	case m.added <- struct{}{}:
	default: // known already
	}
	return nil
}

// Added receives after an endpoint was added, whose programs are to be settled.
func (m *Manager) Added() <-chan struct{} { return m.added }

// publish makes a device with attached programs part of the datapath.
func (m *Manager) publish(s *Spec, index int) error {
	if err := m.writeMaps(s, index); err != nil {
		return err
	}
	if err := setUp(s.HostIfName); err != nil {
		return err
	}
	return m.router.AddEndpoint(index, s.Addresses, net.HardwareAddr(s.PodMAC))
}

// Delete removes the endpoint. Deleting what is absent succeeds.
func (m *Manager) Delete(_ context.Context, s *Spec) error {
	errs := []error{m.clearMaps(s)}
	if lnk, err := netlink.LinkByName(s.HostIfName); err == nil {
		errs = append(errs, m.router.DelEndpoint(lnk.Attrs().Index, s.Addresses))
	}
	return errors.Join(append(errs, DeleteDevice(s), m.programs.DetachPod(s.HostIfName))...)
}

// DeleteDevice deletes the endpoint's pair of devices, and with it everything
// that hangs on them. Deleting what is absent succeeds.
func DeleteDevice(s *Spec) error {
	lnk, err := netlink.LinkByName(s.HostIfName)
	if err == nil {
		err = netlink.LinkDel(lnk)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("delete device %s: %w", s.HostIfName, err)
	}
	return nil
}

// Check says what of the endpoint is missing or not as it was built.
func (m *Manager) Check(_ context.Context, s *Spec, netns *os.File) error {
	index, err := hostIndex(s)
	if err != nil {
		return err
	}
	errs := []error{
		m.checkDatapath(s, index),
		m.router.CheckEndpoint(index, s.Addresses, net.HardwareAddr(s.PodMAC)),
	}
	if netns != nil {
		errs = append(errs, checkPod(s, netns))
	}
	return errors.Join(errs...)
}

// Restore takes over the endpoints that a daemon before this one built: the
// new programs replace the old ones in place, and the maps get what they lack.
// What belongs to no endpoint is swept. It returns the endpoints whose device
// is gone, joined as ErrGone, after doing what can be done for the others.
func (m *Manager) Restore(specs []Spec) error {
	var errs []error
	wanted := make(map[maps.Addr]maps.Endpoint)
	restored := 0
	for i := range specs {
		s := &specs[i]
		index, err := hostIndex(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("restore endpoint %d of %s/%s: %w", s.ID, s.PodNamespace, s.PodName, err))
			continue
		}
		restored++
		stdmaps.Copy(wanted, entries(s, index))
		if err := m.repair(s, index); err != nil {
			errs = append(errs, fmt.Errorf("restore endpoint %d of %s/%s: %w", s.ID, s.PodNamespace, s.PodName, err))
		}
	}
	diff, err := maps.Reconcile(m.maps.Endpoints, wanted)
	m.log.Info("endpoints restored", "endpoints", restored, "updated", diff.Updated, "deleted", diff.Deleted)
	// Only pins of devices that are gone: without its programs, a device that we
	// could not make sense of would let anything through.
	errs = append(errs, err, m.programs.Sweep(func(d string) bool {
		_, err := netlink.LinkByName(d)
		return !isNotFound(err)
	}))
	return errors.Join(errs...)
}

func (m *Manager) checkDatapath(s *Spec, index int) error {
	return errors.Join(m.programs.CheckPod(s.HostIfName, index), m.checkMaps(s, index))
}

// Repair puts back what is missing of an endpoint's programs and entries, and
// says what was. (Routes are repaired by their own Manager, all at once.)
func (m *Manager) Repair(s *Spec) (found error, err error) {
	index, err := hostIndex(s)
	if err != nil {
		return nil, err
	}
	if found = m.checkDatapath(s, index); found == nil {
		return nil, nil
	}
	return found, errors.Join(m.writeMaps(s, index), m.programs.AttachPod(s.HostIfName, index))
}

// Settle attaches the programs of a new endpoint to stay. Where they are, it
// does nothing.
func (m *Manager) Settle(s *Spec) error {
	index, err := hostIndex(s)
	if err != nil || m.programs.Settled(s.HostIfName, index) {
		return err
	}
	return m.programs.AttachPod(s.HostIfName, index)
}

func (m *Manager) repair(s *Spec, index int) error {
	return errors.Join(
		m.programs.AttachPod(s.HostIfName, index),
		m.router.AddEndpoint(index, s.Addresses, net.HardwareAddr(s.PodMAC)),
	)
}
