// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package endpoint

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/waggle-net/waggle/datapath/maps"
	"github.com/waggle-net/waggle/internal/nl"
	"github.com/waggle-net/waggle/test/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// parts are a Manager's neighbours that fail on demand: at the n-th call.
type parts struct {
	calls, failAt int
	attached      map[string]int
	routed        map[int][]netip.Addr
}

var errInjected = errors.New("injected")

func (p *parts) step() error {
	if p.calls++; p.calls == p.failAt {
		return errInjected
	}
	return nil
}

func (p *parts) AttachPod(device string, index int) error {
	if err := p.step(); err != nil {
		return err
	}
	p.attached[device] = index
	return nil
}

func (p *parts) AttachNewPod(device string, index int) error { return p.AttachPod(device, index) }

func (p *parts) Settled(string, int) bool { return true }

func (p *parts) DetachPod(device string) error { delete(p.attached, device); return nil }

func (p *parts) CheckPod(device string, index int) error {
	if p.attached[device] != index {
		return errors.New("not attached")
	}
	return nil
}

func (p *parts) Sweep(keep func(string) bool) error {
	for d := range p.attached {
		if !keep(d) {
			delete(p.attached, d)
		}
	}
	return nil
}

func (p *parts) AddEndpoint(index int, addrs []netip.Addr, _ net.HardwareAddr) error {
	if err := p.step(); err != nil {
		return err
	}
	p.routed[index] = addrs
	return nil
}

func (p *parts) DelEndpoint(index int, _ []netip.Addr) error { delete(p.routed, index); return nil }

func (p *parts) CheckEndpoint(index int, _ []netip.Addr, _ net.HardwareAddr) error {
	if p.routed[index] == nil {
		return errors.New("not routed")
	}
	return nil
}

// fixture is a Manager on real devices, and a namespace to be a pod.
func fixture(t *testing.T) (*Manager, *parts, *os.File) {
	t.Helper()
	p := &parts{attached: make(map[string]int), routed: make(map[int][]netip.Addr)}
	set := &maps.Set{
		Endpoints:  &maps.Fake[maps.Addr, maps.Endpoint]{Fail: p.step},
		Marks:      &maps.FakeArray[uint32]{Values: make([]uint32, MaxID+1)},
		PurgeFlows: func(uint32) error { return nil },
	}
	return New(p, p, set, slog.New(slog.DiscardHandler)), p, podNetNS(t)
}

func podNetNS(t *testing.T) *os.File {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // back home, unless the test has ended
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	ns, err := netns.New() // and this thread is in it
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(ns), "pod")
	t.Cleanup(func() { f.Close() })
	return f
}

func spec() *Spec {
	s := example
	s.ContainerID, s.IfName = "c", "eth0"
	return &s
}

func TestAddCheckDelete(t *testing.T) {
	m, p, ns := fixture(t)
	s := spec()
	if err := m.Add(t.Context(), s, ns); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(t.Context(), s, ns); err != nil {
		t.Errorf("check: %v", err)
	}
	// Again: an error that says what to do, and the first one stays whole.
	other := *s
	other.HostIfName = "wag8"
	if err := m.Add(t.Context(), &other, ns); !errors.Is(err, ErrExists) {
		t.Errorf("a second device of that name: %v", err)
	}
	if err := m.Check(t.Context(), s, ns); err != nil {
		t.Errorf("check after the second: %v", err)
	}
	for range 2 {
		if err := m.Delete(t.Context(), s); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	empty(t, m, p)
	if err := m.Check(t.Context(), s, ns); !errors.Is(err, ErrGone) {
		t.Errorf("check after delete: %v", err)
	}
}

// Whatever fails while an endpoint is built, nothing of it is left.
func TestAddFails(t *testing.T) {
	for failAt := 1; ; failAt++ {
		m, p, ns := fixture(t)
		p.failAt = failAt
		err := m.Add(t.Context(), spec(), ns)
		if p.calls < failAt {
			if failAt < 4 {
				t.Fatalf("only %d steps can fail", failAt-1)
			}
			p.failAt = 0
			if err := errors.Join(err, m.Delete(t.Context(), spec())); err != nil {
				t.Error(err)
			}
			return // every step has failed once
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("step %d failed: %v", failAt, err)
		}
		// Clearing the maps may be the step that failed: the rest is gone, and
		// deleting again finishes.
		p.failAt = 0
		if err := m.Delete(t.Context(), spec()); err != nil {
			t.Errorf("step %d: delete: %v", failAt, err)
		}
		empty(t, m, p)
	}
}

// empty fails where anything of an endpoint is left.
func empty(t *testing.T, m *Manager, p *parts) {
	t.Helper()
	links, err := nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "wag") {
			t.Errorf("device %s is left", l.Attrs().Name)
		}
	}
	walk, _ := m.maps.Endpoints.All()
	for a := range walk {
		t.Errorf("entry %s is left", maps.AddrTo(a))
	}
	if len(p.attached) > 0 || len(p.routed) > 0 {
		t.Errorf("left: attached %v, routed %v", p.attached, p.routed)
	}
}

// What is damaged is named by the check, and mended by Repair or Restore.
func TestRepairAndRestore(t *testing.T) {
	m, p, ns := fixture(t)
	s := spec()
	if err := m.Add(t.Context(), s, ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Delete(t.Context(), s) })
	if err := m.maps.Endpoints.Delete(maps.AddrFrom(s.Addresses[0])); err != nil {
		t.Fatal(err)
	}
	delete(p.attached, s.HostIfName)
	found, err := m.Repair(s)
	if found == nil || err != nil {
		t.Errorf("repair found %v, error %v", found, err)
	}
	if found, err := m.Repair(s); found != nil || err != nil {
		t.Errorf("the second repair found %v, error %v", found, err)
	}

	// The next daemon: an entry of nobody is swept, what lacks is put back, and
	// an endpoint whose device went does not keep the others from it.
	stray := maps.AddrFrom(netip.MustParseAddr("10.244.1.99"))
	if err := m.maps.Endpoints.Update(stray, maps.Endpoint{Id: 99}); err != nil {
		t.Fatal(err)
	}
	p.attached["waggone"] = 4711
	clear(p.routed)
	gone := *s
	gone.ID, gone.HostIfName = 9, "wag9"
	gone.Addresses = []netip.Addr{netip.MustParseAddr("10.244.1.9")}
	if err := m.Restore([]Spec{gone, *s}); !errors.Is(err, ErrGone) {
		t.Errorf("restore: %v, want %v", err, ErrGone)
	}
	if _, ok, _ := m.maps.Endpoints.Lookup(stray); ok {
		t.Error("the stray entry is still there")
	}
	if _, ok := p.attached["waggone"]; ok {
		t.Error("the stray pin is still there")
	}
	if err := m.Check(t.Context(), s, ns); err != nil {
		t.Errorf("check after restore: %v", err)
	}
}

// The pod's side is checked too.
func TestCheckPodSide(t *testing.T) {
	m, _, ns := fixture(t)
	s := spec()
	if err := m.Add(t.Context(), s, ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Delete(t.Context(), s) })
	err := nl.WithNetNS(ns, func() error {
		lnk, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrDel(lnk, &netlink.Addr{IPNet: hostNet(s.Addresses[1])})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(t.Context(), s, ns); err == nil || !strings.Contains(err.Error(), "lacks address fd00:10:244:1::7") {
		t.Errorf("check without the address: %v", err)
	}
}

// A device whose MAC address somebody changed is not ours to build on.
func TestForeignMAC(t *testing.T) {
	m, _, ns := fixture(t)
	s := spec()
	if err := m.Add(t.Context(), s, ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Delete(t.Context(), s) })
	lnk, err := netlink.LinkByName(s.HostIfName)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetHardwareAddr(lnk, net.HardwareAddr{2, 0, 0, 0, 9, 9}); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(t.Context(), s, nil); err == nil || !strings.Contains(err.Error(), "something changed it") {
		t.Errorf("check with another MAC address: %v", err)
	}
}
