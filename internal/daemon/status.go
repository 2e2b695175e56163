// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/waggle-net/waggle/cni/install"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/datapath/loader"
	dmaps "github.com/waggle-net/waggle/datapath/maps"
	"github.com/waggle-net/waggle/internal/config"
	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/internal/version"
)

// Status implements status.Provider. It asks the kernel rather than memory.
func (d *Daemon) Status(context.Context) (*status.Status, error) {
	counters, err := d.counters()
	if err != nil {
		return nil, err
	}
	infos := d.loader.MapInfos()
	return &status.Status{
		Version:   version.String(),
		NodeName:  d.cfg.NodeName,
		Started:   d.started,
		Ready:     d.Ready() == nil,
		Problems:  d.listProblems(infos),
		Features:  features(),
		Programs:  d.programs(),
		Maps:      listMaps(infos),
		Endpoints: d.listEndpoints(),
		Services:  d.listServices(),
		Counters:  counters,
	}, nil
}

// waiting is the daemon before it knows the ranges of its pods.
type waiting struct{ *Daemon }

var errNoRanges = errors.New("this node's pod ranges are not known yet: waiting for the Node object in the cluster's API")

// Ready implements status.Provider.
func (w waiting) Ready() error { return errNoRanges }

// Status implements status.Provider.
func (w waiting) Status(context.Context) (*status.Status, error) {
	problems := []status.Problem{{
		Component: "intent", Message: errNoRanges.Error(),
		Remedy: "see whether the node is there: kubectl get node " + w.cfg.NodeName,
	}}
	return &status.Status{
		Version: version.String(), NodeName: w.cfg.NodeName, Started: w.started,
		Problems: append(problems, w.source.problems()...),
		Features: features(),
	}, nil
}

func features() []status.Feature {
	var out []status.Feature
	for _, f := range loader.Probe() {
		out = append(out, status.Feature{Name: f.Name, Available: f.Available, Detail: f.Detail})
	}
	return out
}

func (d *Daemon) programs() []status.Program {
	var out []status.Program
	for _, p := range d.loader.Programs() {
		out = append(out, status.Program{
			Name: p.Name, Hook: p.Hook, Attach: p.Attach, Target: p.Target, ID: p.ID, Verified: p.Verified,
		})
	}
	return out
}

func listMaps(infos []loader.MapInfo) []status.Map {
	var out []status.Map
	for _, m := range infos {
		out = append(out, status.Map{
			Name: m.Name, Type: m.Type, Entries: uint32(max(m.Entries, 0)), MaxEntries: m.MaxEntries,
			Bytes: m.Bytes, Flag: m.Flag,
		})
	}
	return out
}

func (d *Daemon) listEndpoints() []status.Endpoint {
	var out []status.Endpoint
	for _, s := range d.cni.Endpoints() {
		out = append(out, status.Endpoint{
			ID: s.ID, Pod: podName(&s), ContainerID: s.ContainerID, HostDevice: s.HostIfName,
			Addresses: s.Addresses, MAC: s.PodMAC.String(), Marks: d.marks(s.ID),
		})
	}
	return out
}

func podName(s *endpoint.Spec) string {
	if s.PodName == "" {
		return ""
	}
	return s.PodNamespace + "/" + s.PodName
}

func (d *Daemon) marks(id uint32) (out []string) {
	v, err := d.loader.Maps().Marks.Get(id)
	if err != nil {
		return []string{"unknown"}
	}
	for mark, name := range map[uint32]string{dmaps.MarkNAT: "NAT", dmaps.MarkStack: "STACK"} {
		if v&mark != 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (d *Daemon) listServices() []status.Service {
	var out []status.Service
	for _, v := range d.services.Views() {
		out = append(out, status.Service{
			Namespace: v.Service.Namespace, Name: v.Service.Name,
			Address: v.Address.Addr, Port: v.Address.Port, Protocol: v.Address.Protocol.String(),
			Backends: v.Known, Ready: len(v.Backends),
		})
	}
	return out
}

func (d *Daemon) counters() ([]status.Counter, error) {
	counters, err := d.names.Read(d.loader.Maps().Counters)
	if err != nil {
		return nil, err
	}
	var out []status.Counter
	for _, c := range counters {
		out = append(out, status.Counter{Hook: c.Hook, Name: c.Name, Drop: c.Drop, Packets: c.Packets, Bytes: c.Bytes})
	}
	return out, nil
}

// listProblems gathers what every part has to say.
func (d *Daemon) listProblems(infos []loader.MapInfo) []status.Problem {
	var out []status.Problem
	d.problems.mu.Lock()
	for _, part := range slices.Sorted(maps.Keys(d.problems.byPart)) {
		out = append(out, d.problems.byPart[part])
	}
	d.problems.mu.Unlock()
	if err := d.Ready(); err != nil {
		_, remedy := d.source.missing()
		out = append(out, status.Problem{Component: "intent", Message: err.Error(), Remedy: remedy})
	}
	out = append(out, d.source.problems()...)
	for _, err := range d.loader.Problems() {
		out = append(out, status.Problem{Component: "loader", Message: err.Error()})
	}
	for _, err := range d.services.Problems() {
		out = append(out, status.Problem{Component: "service", Message: err.Error()})
	}
	return append(out, fullMaps(infos)...)
}

// fullMaps warns while there is still room.
func fullMaps(infos []loader.MapInfo) []status.Problem {
	const percent = 90
	var out []status.Problem
	for _, m := range infos {
		if m.Flag == "" || m.Entries < 0 || uint64(m.Entries)*100 < uint64(m.MaxEntries)*percent {
			continue
		}
		// An LRU map is always full in the end, and nothing is lost by it.
		if m.Type == "LRUHash" {
			continue
		}
		out = append(out, status.Problem{
			Component: "loader",
			Message:   fmt.Sprintf("map %s holds %d of %d entries", m.Name, m.Entries, m.MaxEntries),
			Remedy:    "raise " + m.Flag,
		})
	}
	return out
}

func installConfig(cfg *config.Config) install.Config {
	return install.Config{BinDir: cfg.CNI.BinDir, ConfDir: cfg.CNI.ConfDir, Socket: cfg.CNISocket()}
}
