// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"os"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/waggle-net/waggle/bpf"
)

// Program is one attached program, for the operator.
type Program struct {
	Name   string // as bpftool shows it
	Hook   string // tcx ingress, tcx egress, or the cgroup hook
	Attach string // tcx, tc or cgroup
	Target string // device or cgroup
	ID     uint32
	// Verified is the number of instructions that the verifier walked.
	Verified uint32
}

// Programs returns what is attached: what the pinned links carry, and with
// clsact, which has none, what this daemon has attached.
func (l *Loader) Programs() []Program {
	var out []Program
	for _, h := range append(l.podHooks(), l.uplinkHooks()...) {
		p := describe(h)
		p.Attach = string(l.mode)
		out = append(out, l.onDevices(h, p)...)
	}
	for _, h := range l.socketHooks() {
		p := describe(h)
		p.Attach, p.Target = "cgroup", l.cfg.CgroupRoot
		out = append(out, p)
	}
	return out
}

func describe(h hook) Program {
	p := Program{Name: h.program, Hook: h.attach.String()}
	if info, err := h.prog.Info(); err == nil {
		if id, ok := info.ID(); ok {
			p.ID = uint32(id)
		}
		p.Verified, _ = info.VerifiedInstructions()
	}
	return p
}

// onDevices is one entry for each device that carries the program, or one
// without device where there is none yet.
func (l *Loader) onDevices(h hook, p Program) []Program {
	entries, err := os.ReadDir(l.cfg.linkDir())
	if err != nil {
		return []Program{p}
	}
	var out []Program
	for _, e := range entries {
		device, ok := strings.CutPrefix(e.Name(), h.program+"_")
		if !ok {
			continue
		}
		p.Target = device
		if lnk, err := loadLink(l.pin(h, device)); err == nil && lnk != nil {
			if info, err := lnk.Info(); err == nil {
				p.ID = uint32(info.Program)
			}
			lnk.Close()
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return []Program{p}
	}
	return out
}

// MapInfo is one map, for the operator.
type MapInfo struct {
	Name       string
	Type       string
	Entries    int // -1 where it is not counted
	MaxEntries uint32
	Bytes      uint64
	// Flag is the setting that makes it larger, empty where there is none.
	Flag string
}

// MapInfos returns the maps of the programs with their fill.
func (l *Loader) MapInfos() []MapInfo {
	var out []MapInfo
	for _, m := range []struct {
		m    *ebpf.Map
		name string
		flag string
	}{
		{l.pod.WagEndpoints1, bpf.PodMapWagEndpoints1, ""},
		{l.pod.WagFrontends1, bpf.PodMapWagFrontends1, "maps.frontends"},
		{l.pod.WagSlots1, bpf.PodMapWagSlots1, "maps.slots"},
		{l.pod.WagBackends1, bpf.PodMapWagBackends1, "maps.backends"},
		{l.pod.WagConntrack1, bpf.PodMapWagConntrack1, "maps.conntrack"},
		{l.pod.WagFragments1, bpf.PodMapWagFragments1, "maps.fragments"},
		{l.pod.WagEpMarks1, bpf.PodMapWagEpMarks1, ""},
		{l.uplink.WagNodeAddrs1, bpf.UplinkMapWagNodeAddrs1, ""},
		{l.pod.WagCounters1, bpf.PodMapWagCounters1, ""},
		{l.socket.WagSkSpill1, bpf.SocketMapWagSkSpill1, ""},
	} {
		i := MapInfo{
			Name: m.name, Type: m.m.Type().String(), Flag: m.flag,
			MaxEntries: m.m.MaxEntries(), Entries: fill(m.m),
		}
		if info, err := m.m.Info(); err == nil {
			i.Bytes, _ = info.Memlock()
		}
		out = append(out, i)
	}
	return out
}

// fill counts the keys of a hash map; an array is always full.
func fill(m *ebpf.Map) int {
	switch m.Type() {
	case ebpf.Hash, ebpf.LRUHash:
	default:
		return -1
	}
	n := 0
	key := make([]byte, m.KeySize())
	// The walk starts anew where its key was deleted meanwhile: an estimate.
	for err := m.NextKey(nil, key); err == nil && n < int(m.MaxEntries()); err = m.NextKey(key, key) {
		n++
	}
	return n
}
