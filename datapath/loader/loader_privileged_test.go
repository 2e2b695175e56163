// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/bpf"
	"github.com/waggle-net/waggle/datapath/maps"
	"github.com/waggle-net/waggle/test/await"
	sandboxed "github.com/waggle-net/waggle/test/sandbox"
)

// sandbox gives the test a network namespace with a veth pair, a bpffs and a
// cgroup, all its own.
func sandbox(t *testing.T) (cfg Config, index int) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread dies with its namespace
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })

	root := filepath.Join(t.TempDir(), "bpf")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })

	cgroup2, err := FindCgroup2()
	if err != nil {
		t.Fatal(err)
	}
	cgroup, err := os.MkdirTemp(cgroup2, "waggle-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(cgroup) })
	return Config{BPFRoot: root, CgroupRoot: cgroup}, addVeth(t, "wagtest0")
}

func addVeth(t *testing.T, name string) int {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
	lnk, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return lnk.Attrs().Index
}

func open(t *testing.T, cfg Config) *Loader {
	t.Helper()
	l, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// programIDs lists what runs on a hook, in order.
func programIDs(t *testing.T, index int, at ebpf.AttachType) (ids []ebpf.ProgramID) {
	t.Helper()
	res, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: at})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range res.Programs {
		ids = append(ids, p.ID)
	}
	return ids
}

func id(t *testing.T, p *ebpf.Program) ebpf.ProgramID {
	t.Helper()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// Both ways of attachment keep one contract: attach, check, replace by a second
// loader, lose and repair, forget.
func TestAttachPod(t *testing.T) {
	for _, mode := range []Mode{TCX, TC} {
		t.Run(string(mode), func(t *testing.T) {
			cfg, index := sandbox(t)
			cfg.Mode = mode
			l := open(t, cfg)
			if err := l.CheckPod("wagtest0", index); !errors.Is(err, ErrNotAttached) {
				t.Errorf("check before attaching: %v", err)
			}
			for range 2 { // attaching again is no error
				if err := l.AttachPod("wagtest0", index); err != nil {
					t.Fatal(err)
				}
				if err := l.CheckPod("wagtest0", index); err != nil {
					t.Errorf("check after attaching: %v", err)
				}
			}

			// The next daemon: programs are replaced, maps are the same.
			key := maps.FrontendKey{Port: 1}
			if err := l.Maps().Frontends.Update(key, maps.Frontend{Generation: 42}); err != nil {
				t.Fatal(err)
			}
			l.Close()
			l = open(t, cfg)
			if v, ok, err := l.Maps().Frontends.Lookup(key); err != nil || !ok || v.Generation != 42 {
				t.Errorf("frontend after reopening is %+v, %v, %v", v, ok, err)
			}
			if err := l.CheckPod("wagtest0", index); err != nil {
				t.Errorf("check by the next daemon, before it attached: %v", err)
			}
			if err := l.AttachPod("wagtest0", index); err != nil {
				t.Fatal(err)
			}
			if mode == TCX {
				want := []ebpf.ProgramID{id(t, l.pod.FromPod)}
				if got := programIDs(t, index, ebpf.AttachTCXIngress); !slices.Equal(got, want) {
					t.Errorf("programs are %v, want %v alone", got, want)
				}
			}
			if err := l.DetachPod("wagtest0"); err != nil {
				t.Fatal(err)
			}
			if err := l.DetachPod("wagtest0"); err != nil {
				t.Errorf("detaching what is absent: %v", err)
			}
		})
	}
}

// The uplink's program is replaced by the next daemon, taken off devices that are none
// any more, and off all of them at the end: they stay, other than pods'.
func TestAttachUplink(t *testing.T) {
	for _, mode := range []Mode{TCX, TC} {
		t.Run(string(mode), func(t *testing.T) {
			cfg, index := sandbox(t)
			cfg.Mode = mode
			other := addVeth(t, "wagtest1")
			l := open(t, cfg)
			for range 2 { // the second is the next daemon
				for name, at := range map[string]int{"wagtest0": index, "wagtest1": other} {
					if err := l.AttachUplink(name, at); err != nil {
						t.Fatal(err)
					}
					if err := l.CheckUplink(name, at); err != nil {
						t.Errorf("check of %s: %v", name, err)
					}
				}
				if mode == TCX {
					want := []ebpf.ProgramID{id(t, l.uplink.FromNetwork)}
					if got := programIDs(t, index, ebpf.AttachTCXIngress); !slices.Equal(got, want) {
						t.Errorf("programs are %v, want %v alone", got, want)
					}
				}
				l.Close()
				l = open(t, cfg)
			}
			if err := l.SweepUplinks(func(name string) bool { return name == "wagtest0" }); err != nil {
				t.Fatal(err)
			}
			if err := l.CheckUplink("wagtest0", index); err != nil {
				t.Errorf("the device that is kept: %v", err)
			}
			if err := l.CheckUplink("wagtest1", other); !errors.Is(err, ErrNotAttached) {
				t.Errorf("the device that is not: %v", err)
			}
			if err := Cleanup(cfg.BPFRoot); err != nil {
				t.Fatal(err)
			}
			if err := l.CheckUplink("wagtest0", index); !errors.Is(err, ErrNotAttached) {
				t.Errorf("after cleanup: %v", err)
			}
		})
	}
}

func TestSwitchFromTCXToClsact(t *testing.T) {
	cfg, index := sandbox(t)
	cfg.Mode = TCX
	if err := open(t, cfg).AttachPod("wagtest0", index); err != nil {
		t.Fatal(err)
	}
	cfg.Mode = TC
	l := open(t, cfg)
	if err := l.AttachPod("wagtest0", index); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckPod("wagtest0", index); err != nil {
		t.Error(err)
	}
	// The kernel detaches a link some time after its last reference has gone.
	await.Until(t, func() error {
		if ids := programIDs(t, index, ebpf.AttachTCXIngress); len(ids) > 0 {
			return fmt.Errorf("tcx still has programs %v", ids)
		}
		return nil
	})
}

// A new device is served at once by filters, and later by links alone.
func TestAttachNewPod(t *testing.T) {
	for _, mode := range []Mode{TCX, TC} {
		t.Run(string(mode), func(t *testing.T) {
			cfg, index := sandbox(t)
			cfg.Mode = mode
			l := open(t, cfg)
			if err := l.AttachNewPod("wagtest0", index); err != nil {
				t.Fatal(err)
			}
			if err := l.CheckPod("wagtest0", index); err != nil {
				t.Errorf("check of the new device: %v", err)
			}
			if got, want := l.Settled("wagtest0", index), mode == TC; got != want {
				t.Errorf("settled is %v, want %v", got, want)
			}
			if err := l.AttachPod("wagtest0", index); err != nil {
				t.Fatal(err)
			}
			if err := l.CheckPod("wagtest0", index); err != nil {
				t.Errorf("check of the settled device: %v", err)
			}
			if !l.Settled("wagtest0", index) {
				t.Error("the device is not settled")
			}
			for _, h := range l.podHooks() {
				f, _, err := findFilter(h, device{"wagtest0", index})
				if err != nil || (f != nil) != (mode == TC) {
					t.Errorf("%s: filter %v, %v", h.program, f, err)
				}
			}
		})
	}
}

// And back: the filter of before does not run behind the link.
func TestSwitchFromClsactToTCX(t *testing.T) {
	cfg, index := sandbox(t)
	cfg.Mode = TC
	if err := open(t, cfg).AttachPod("wagtest0", index); err != nil {
		t.Fatal(err)
	}
	cfg.Mode = TCX
	l := open(t, cfg)
	if err := l.AttachPod("wagtest0", index); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckPod("wagtest0", index); err != nil {
		t.Error(err)
	}
	for _, h := range l.podHooks() {
		if f, _, err := findFilter(h, device{"wagtest0", index}); f != nil || err != nil {
			t.Errorf("%s is still a filter: %v, %v", h.program, f, err)
		}
	}
}

// Somebody puts a program ahead of ours, which would turn policy off: it is
// seen, and ours goes to the head again. Theirs is left alone.
func TestOvertaken(t *testing.T) {
	cfg, index := sandbox(t)
	cfg.Mode = TCX
	l := open(t, cfg)
	if err := l.AttachPod("wagtest0", index); err != nil {
		t.Fatal(err)
	}
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	lnk, err := link.AttachTCX(link.TCXOptions{
		Interface: index, Program: foreign, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lnk.Close()
	if err := l.CheckPod("wagtest0", index); !errors.Is(err, ErrNotAttached) {
		t.Errorf("check with a program ahead of ours: %v", err)
	}
	if err := l.AttachPod("wagtest0", index); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckPod("wagtest0", index); err != nil {
		t.Error(err)
	}
	got := programIDs(t, index, ebpf.AttachTCXIngress)
	if len(got) != 2 || got[1] != id(t, foreign) {
		t.Errorf("programs are %v, want ours and then %d", got, id(t, foreign))
	}
}

// Pins of devices that went while no daemon ran are swept; others stay.
func TestSweep(t *testing.T) {
	cfg, index := sandbox(t)
	cfg.Mode = TCX
	l := open(t, cfg)
	gone := addVeth(t, "waggone0")
	for name, i := range map[string]int{"wagtest0": index, "waggone0": gone} {
		if err := l.AttachPod(name, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sweep(func(d string) bool { return d == "wagtest0" }); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckPod("wagtest0", index); err != nil {
		t.Error(err)
	}
	if err := l.CheckPod("waggone0", gone); !errors.Is(err, ErrNotAttached) {
		t.Errorf("check of the swept device: %v", err)
	}
}

func TestAttachSockets(t *testing.T) {
	cfg, _ := sandbox(t)
	l := open(t, cfg)
	if err := l.CheckSockets(); !errors.Is(err, ErrNotAttached) {
		t.Errorf("check before attaching: %v", err)
	}
	for range 2 {
		if err := l.AttachSockets(); err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSockets(); err != nil {
			t.Error(err)
		}
	}
	// Another cgroup than the one that the pins are of.
	cfg.CgroupRoot += "-other"
	if err := os.Mkdir(cfg.CgroupRoot, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(cfg.CgroupRoot) })
	l = open(t, cfg)
	if err := l.CheckSockets(); !errors.Is(err, ErrNotAttached) {
		t.Errorf("check on another cgroup: %v", err)
	}
	if err := l.AttachSockets(); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSockets(); err != nil {
		t.Error(err)
	}
}

// A map that is pinned keeps its size and says so; one with another layout is
// refused with the remedy.
func TestPinnedMaps(t *testing.T) {
	cfg, _ := sandbox(t)
	open(t, cfg).Close()
	cfg.Sizes = map[string]uint32{bpf.PodMapWagFrontends1: 128}
	if l := open(t, cfg); len(l.Problems()) != 1 {
		t.Errorf("problems with another size are %v", l.Problems())
	}

	pin := filepath.Join(cfg.mapDir(), bpf.PodMapWagFrontends1)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 128})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(pin); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrLayout) {
		t.Errorf("opening on another layout: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	cfg, _ := sandbox(t)
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"no bpffs":         {func(c *Config) { c.BPFRoot = t.TempDir() }, ErrNotBPFFS},
		"no such folder":   {func(c *Config) { c.BPFRoot = "/nonexistent" }, os.ErrNotExist},
		"no cgroup":        {func(c *Config) { c.CgroupRoot = t.TempDir() }, ErrNotCgroup2},
		"no cgroup folder": {func(c *Config) { c.CgroupRoot = "/nonexistent" }, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			bad := cfg
			c.change(&bad)
			l, err := Open(bad, slog.New(slog.DiscardHandler))
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if l != nil {
				t.Error("a loader came with the error")
			}
		})
	}
}

// Verified instruction counts are recorded where CI prints them.
func TestVerifiedInstructions(t *testing.T) {
	cfg, _ := sandbox(t)
	for _, p := range open(t, cfg).Programs() {
		if p.Verified == 0 || p.ID == 0 {
			t.Errorf("%s: %d instructions, id %d", p.Name, p.Verified, p.ID)
		}
		t.Logf("%-14s %6d instructions verified", p.Name, p.Verified)
	}
}

func TestMain(m *testing.M) { os.Exit(sandboxed.Main(m)) }
