// SPDX-License-Identifier: Apache-2.0

// Package loader loads the eBPF programs, attaches them, and keeps them
// attached.
//
// Everything that forwards packets is pinned below <bpfRoot>/waggle and outlives
// the daemon. A starting daemon loads its programs on the maps that it finds and
// replaces the programs behind the pinned links in place, so that no packet ever
// meets an empty map or a device without program.
package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/waggle-net/waggle/bpf"
	dmaps "github.com/waggle-net/waggle/datapath/maps"
)

// Mode is how programs are attached to devices.
type Mode string

// The modes of attachment: tcx needs Linux 6.6; tc (clsact) works everywhere.
const (
	Auto Mode = "auto"
	TCX  Mode = "tcx"
	TC   Mode = "tc"
)

// Config is what a Loader is told.
type Config struct {
	// BPFRoot is where bpffs is mounted. Required.
	BPFRoot string
	// CgroupRoot is the cgroup v2 folder whose sockets see services. Required.
	CgroupRoot string
	// Mode defaults to Auto.
	Mode Mode
	// Sizes gives maps another number of entries than their declaration.
	Sizes map[string]uint32
}

// PinDir is the folder that holds all of our pins.
func PinDir(bpfRoot string) string { return filepath.Join(bpfRoot, "waggle") }

func (c *Config) mapDir() string  { return filepath.Join(PinDir(c.BPFRoot), "maps") }
func (c *Config) linkDir() string { return filepath.Join(PinDir(c.BPFRoot), "links") }

// Loader holds the loaded programs.
type Loader struct {
	cfg    Config
	log    *slog.Logger
	mode   Mode // TCX or TC
	pod    bpf.PodObjects
	socket bpf.SocketObjects
	uplink bpf.UplinkObjects
	set    *dmaps.Set

	// resized are maps, by name, that keep their size until they are recreated.
	resized map[string]error
}

// Open loads the programs on the pinned maps, which it creates where they do
// not exist. Nothing is attached yet.
func Open(cfg Config, log *slog.Logger) (_ *Loader, err error) {
	if err := errors.Join(checkBPFFS(cfg.BPFRoot), checkCgroup2(cfg.CgroupRoot)); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise memory lock limit: %w", err)
	}
	for _, dir := range []string{cfg.mapDir(), cfg.linkDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create pin folder: %w", err)
		}
	}
	l := &Loader{cfg: cfg, log: log, resized: make(map[string]error)}
	if l.mode, err = chooseMode(cfg.Mode); err != nil {
		return nil, err
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if l.set, err = dmaps.NewSet(&l.pod, &l.uplink.UplinkMaps); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Maps returns the maps that the programs use.
func (l *Loader) Maps() *dmaps.Set { return l.set }

// Mode returns how programs are attached: TCX or TC.
func (l *Loader) Mode() Mode { return l.mode }

// Problems returns what is not as configured, though nothing failed.
func (l *Loader) Problems() []error {
	var out []error
	for _, name := range slices.Sorted(maps.Keys(l.resized)) {
		out = append(out, l.resized[name])
	}
	return out
}

// Close lets go of programs and maps. What is pinned or attached stays.
func (l *Loader) Close() error {
	return errors.Join(l.pod.Close(), l.socket.Close(), l.uplink.Close())
}

func (l *Loader) load() error {
	for _, o := range []struct {
		name string
		spec func() (*ebpf.CollectionSpec, error)
		into any
	}{
		{"pod", bpf.LoadPod, &l.pod},
		{"socket", bpf.LoadSocket, &l.socket},
		{"uplink", bpf.LoadUplink, &l.uplink},
	} {
		spec, err := o.spec()
		if err != nil {
			return fmt.Errorf("read %s programs: %w", o.name, err)
		}
		if err := l.sizeMaps(spec); err != nil {
			return err
		}
		opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: l.cfg.mapDir()}}
		if err := spec.LoadAndAssign(o.into, opts); err != nil {
			return l.explain(o.name, err)
		}
	}
	return nil
}

// sizeMaps sets the configured sizes. A map that is pinned already keeps its
// size, as it holds live state: that is said, and no reason to fail.
func (l *Loader) sizeMaps(spec *ebpf.CollectionSpec) error {
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		if n, ok := l.cfg.Sizes[name]; ok && n > 0 {
			m.MaxEntries = n
		}
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(l.cfg.mapDir(), name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open pinned map %s: %w", name, err)
		}
		if have := pinned.MaxEntries(); have != m.MaxEntries {
			l.resized[name] = fmt.Errorf(
				"map %s keeps its %d entries (configured: %d): it holds live state; it gets the new size after waggled cleanup",
				name, have, m.MaxEntries)
			m.MaxEntries = have
		}
		if err := pinned.Close(); err != nil {
			return err
		}
	}
	return nil
}

// explain turns what the library says into what the operator can do.
func (l *Loader) explain(object string, err error) error {
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return fmt.Errorf("load %s programs: %w: drain the node, run waggled cleanup, start again: %w", object, ErrLayout, err)
	}
	if missing := Missing(Probe()); len(missing) > 0 {
		return fmt.Errorf("load %s programs: %w: %s: %w", object, ErrKernelTooOld, missing[0].Detail, err)
	}
	if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		l.log.Error("the verifier's whole log", "programs", object, "log", fmt.Sprintf("%+v", ve))
		return fmt.Errorf("load %s programs: the kernel's verifier refuses them, which is a defect of waggle: please report it with uname -r: %w", object, err)
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("load %s programs: %w: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", object, err)
	}
	return fmt.Errorf("load %s programs: %w", object, err)
}
