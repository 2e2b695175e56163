// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/waggle-net/waggle/bpf"
)

// Set is all maps that the daemon reads or writes.
type Set struct {
	Endpoints Table[Addr, Endpoint]
	Marks     Array[uint32]
	Frontends Table[FrontendKey, Frontend]
	Slots     Array[uint32]
	Backends  Array[Backend]
	// NodeAddrs are the node's own addresses. The values mean nothing.
	NodeAddrs Table[Addr, uint32]
	Counters  *ebpf.Map
	// PurgeFlows forgets every flow of an endpoint. SweepFlows removes those that
	// have expired: programs take them for absent, but they take room.
	PurgeFlows func(endpoint uint32) error
	SweepFlows func() error
	// Grace returns when every program run that was under way has ended: what
	// was unlinked before is then read by nobody.
	Grace func() error
}

// NewSet wraps the maps that the programs were loaded with.
func NewSet(m *bpf.PodObjects, u *bpf.UplinkMaps) (*Set, error) {
	grace, err := newGrace()
	if err != nil {
		return nil, err
	}
	return &Set{
		Endpoints: NewKernel[Addr, Endpoint](bpf.PodMapWagEndpoints1, m.WagEndpoints1,
			"its size is fixed at two addresses for each of 4096 pods"),
		Marks: NewKernelArray[uint32](bpf.PodMapWagEpMarks1, m.WagEpMarks1),
		Frontends: NewKernel[FrontendKey, Frontend](bpf.PodMapWagFrontends1, m.WagFrontends1,
			"raise maps.frontends"),
		Slots:    NewKernelArray[uint32](bpf.PodMapWagSlots1, m.WagSlots1),
		Backends: NewKernelArray[Backend](bpf.PodMapWagBackends1, m.WagBackends1),
		NodeAddrs: NewKernel[Addr, uint32](bpf.UplinkMapWagNodeAddrs1, u.WagNodeAddrs1,
			"its size is fixed: services from outside know the node's first 256 addresses only"),
		Counters:   m.WagCounters1,
		PurgeFlows: func(endpoint uint32) error { return onFlows(m.PurgeFlows, endpoint) },
		SweepFlows: func() error { return onFlows(m.SweepFlows, 0) },
		Grace:      grace.wait,
	}, nil
}

// mark is the first fields of struct __sk_buff, up to the one that says which
// endpoint is meant.
type mark struct {
	_    [2]uint32
	Mark uint32
}

// onFlows runs a program on the least that the kernel takes for a packet.
func onFlows(p *ebpf.Program, endpoint uint32) error {
	const ethernetHeader = 14
	_, err := p.Run(&ebpf.RunOptions{Data: make([]byte, ethernetHeader), Context: mark{Mark: endpoint}})
	if err != nil {
		return fmt.Errorf("run %s: %w", p, err)
	}
	return nil
}

// grace waits for program runs to end. Updating a map of maps does that in the
// kernel before it returns (maybe_wait_bpf_programs() in kernel/bpf/syscall.c).
type grace struct {
	outer, inner *ebpf.Map
}

func newGrace() (_ *grace, err error) {
	inner := &ebpf.MapSpec{Name: "wag_grace_in", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	g := &grace{}
	if g.inner, err = ebpf.NewMap(inner); err != nil {
		return nil, fmt.Errorf("create map %s: %w", inner.Name, err)
	}
	g.outer, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "wag_grace", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create map wag_grace: %w", err), g.inner.Close())
	}
	return g, nil
}

func (g *grace) wait() error {
	if err := g.outer.Put(uint32(0), g.inner); err != nil {
		return fmt.Errorf("wait for a grace period: %w", err)
	}
	return nil
}
