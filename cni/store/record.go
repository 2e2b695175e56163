// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

// State is how far an endpoint has come.
type State string

const (
	// Creating is written before anything is built: whoever finds it after a
	// crash takes the endpoint away.
	Creating State = "creating"
	// Ready is written after everything is built.
	Ready State = "ready"
)

// Record is one endpoint as it is written down.
type Record struct {
	// Network is the name in the network configuration that it was added by.
	Network string        `json:"network"`
	State   State         `json:"state"`
	Created time.Time     `json:"created"`
	Spec    endpoint.Spec `json:"spec"`
}

// Attachment is what the record is found by.
func (r Record) Attachment() protocol.Attachment {
	return protocol.Attachment{ContainerID: r.Spec.ContainerID, IfName: r.Spec.IfName}
}

// Released is an address that an endpoint had.
type Released struct {
	Addr netip.Addr
	// At is the time since boot.
	At time.Duration
}

func decodeRecord(key, value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("record %q: %w", key, err)
	}
	switch {
	case r.Attachment().Key() != string(key):
		return r, fmt.Errorf("record %q is that of %q", key, r.Attachment().Key())
	case r.State != Creating && r.State != Ready:
		return r, fmt.Errorf("record %q has the unknown state %q", key, r.State)
	case r.Spec.ID < 1 || r.Spec.ID > endpoint.MaxID:
		return r, fmt.Errorf("record %q has the endpoint number %d", key, r.Spec.ID)
	case len(r.Spec.Addresses) == 0:
		return r, fmt.Errorf("record %q has no address", key)
	}
	return r, nil
}

func decodeReleased(key, value []byte) (Released, error) {
	a, ok := netip.AddrFromSlice(key)
	if !ok || len(value) != 8 {
		return Released{}, errors.New("released address of the wrong length")
	}
	return Released{Addr: a, At: time.Duration(binary.BigEndian.Uint64(value))}, nil
}

// contradiction says what two records both claim, or nothing.
func contradiction(records []Record) error {
	owner := map[any]string{}
	for i := range records {
		s, key := &records[i].Spec, records[i].Attachment().Key()
		claims := []any{s.ID, s.HostIfName}
		for _, a := range s.Addresses {
			claims = append(claims, a)
		}
		for _, c := range claims {
			if other, ok := owner[c]; ok {
				return fmt.Errorf("%v belongs to both %q and %q", c, other, key)
			}
			owner[c] = key
		}
	}
	return nil
}
