// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"

	"github.com/waggle-net/waggle/datapath/maps"
)

// entries compiles an endpoint to what the endpoints map holds of it.
func entries(s *Spec, index int) map[maps.Addr]maps.Endpoint {
	ep := maps.Endpoint{Ifindex: uint32(index), Id: s.ID, Mtu: uint32(s.MTU)}
	copy(ep.PodMac[:], s.PodMAC)
	copy(ep.HostMac[:], s.HostMAC)
	out := make(map[maps.Addr]maps.Endpoint, len(s.Addresses))
	for _, a := range s.Addresses {
		out[maps.AddrFrom(a)] = ep
	}
	return out
}

func (m *Manager) writeMaps(s *Spec, index int) error {
	for a, ep := range entries(s, index) {
		if err := m.maps.Endpoints.Update(a, ep); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) checkMaps(s *Spec, index int) error {
	var errs []error
	for a, want := range entries(s, index) {
		have, ok, err := m.maps.Endpoints.Lookup(a)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			errs = append(errs, fmt.Errorf("endpoints map lacks %s", maps.AddrTo(a)))
		case have != want:
			errs = append(errs, fmt.Errorf("endpoints map has another entry for %s: %+v, not %+v", maps.AddrTo(a), have, want))
		}
	}
	return errors.Join(errs...)
}

// clearMaps takes the endpoint out of the datapath. Its flows go with it: the
// next holder of the number or the addresses must not inherit them.
func (m *Manager) clearMaps(s *Spec) error {
	var errs []error
	for _, a := range s.Addresses {
		errs = append(errs, m.maps.Endpoints.Delete(maps.AddrFrom(a)))
	}
	return errors.Join(append(errs, m.clearMarks(s.ID))...)
}

// clearMarks forgets what an endpoint's flows have left. It is called when an
// endpoint goes, and again when its number has a new holder: a program that was
// under way when the entries went may have written something since.
func (m *Manager) clearMarks(id uint32) error {
	marks, err := m.maps.Marks.Get(id)
	if err != nil || marks == 0 {
		return err
	}
	if err := m.maps.PurgeFlows(id); err != nil {
		return err
	}
	return m.maps.Marks.Set(id, 0)
}
