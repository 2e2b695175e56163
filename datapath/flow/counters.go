// SPDX-License-Identifier: Apache-2.0

// Package flow reads what the programs count and report.
package flow

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/waggle-net/waggle/bpf"
)

// Layout of the counters map; see bpf/lib/counters.h. A test compares them with C.
const (
	dropsAt  = 32
	perHook  = 64
	dropBase = -130 // DROP_FIRST
)

// Counter is one thing that was counted at one hook.
type Counter struct {
	Hook string // from_pod, to_pod or socket
	Name string // such as delivered or spoofed
	Drop bool
	// Packets is calls for the socket hook.
	Packets uint64
	Bytes   uint64
}

// Names tells what the counters' indexes mean. They are read from the program's
// own BTF, so that no list is kept twice.
type Names struct {
	hooks, events, drops map[int64]string
}

// LoadNames reads the names from the pod programs.
func LoadNames() (*Names, error) {
	spec, err := bpf.LoadPod()
	if err != nil {
		return nil, fmt.Errorf("read pod programs: %w", err)
	}
	n := &Names{}
	for _, e := range []struct {
		typ, prefix string
		into        *map[int64]string
	}{
		{"hook", "HOOK_", &n.hooks},
		{"event", "EVENT_", &n.events},
		{"drop_reason", "DROP_", &n.drops},
	} {
		var enum *btf.Enum
		if err := spec.Types.TypeByName(e.typ, &enum); err != nil {
			return nil, fmt.Errorf("find enum %s: %w", e.typ, err)
		}
		*e.into = make(map[int64]string)
		for _, v := range enum.Values {
			if name := strings.TrimPrefix(v.Name, e.prefix); name != "COUNT" {
				value := int64(v.Value)
				if enum.Signed {
					value = int64(int32(uint32(v.Value)))
				}
				(*e.into)[value] = strings.ToLower(name)
			}
		}
	}
	return n, nil
}

// DropName names a drop reason by its number, such as -133.
func (n *Names) DropName(reason int) string {
	if s, ok := n.drops[int64(reason)]; ok {
		return s
	}
	return fmt.Sprintf("reason %d", reason)
}

// at names the counter at an index; false where nothing is counted.
func (n *Names) at(index uint32) (c Counter, ok bool) {
	var at bool
	if c.Hook, ok = n.hooks[int64(index/perHook)]; !ok {
		return c, false
	}
	i := int64(index % perHook)
	if c.Drop = i >= dropsAt; c.Drop {
		c.Name, at = n.drops[dropBase-(i-dropsAt)]
	} else {
		c.Name, at = n.events[i]
	}
	return c, at
}

// Read returns every counter that is not zero, in the order of hooks, events
// first, summed over CPUs.
func (n *Names) Read(m *ebpf.Map) ([]Counter, error) {
	var out []Counter
	for i := range m.MaxEntries() {
		c, ok := n.at(i)
		if !ok {
			continue
		}
		var perCPU []bpf.PodCounter
		if err := m.Lookup(&i, &perCPU); err != nil {
			return nil, fmt.Errorf("read counter %d: %w", i, err)
		}
		for _, v := range perCPU {
			c.Packets += v.Packets
			c.Bytes += v.Bytes
		}
		if c.Packets > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}
