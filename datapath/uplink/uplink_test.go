// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/datapath/maps"
)

func TestSort(t *testing.T) {
	at := func(index int, scope int, s string) netlink.Addr {
		return netlink.Addr{IPNet: &net.IPNet{IP: net.IP(netip.MustParseAddr(s).AsSlice())}, LinkIndex: index, Scope: scope}
	}
	own, devices := sort(
		[]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("203.0.113.1")},
		[]netlink.Addr{
			at(1, unix.RT_SCOPE_HOST, "127.0.0.1"), at(1, unix.RT_SCOPE_HOST, "::1"),
			at(2, unix.RT_SCOPE_UNIVERSE, "192.0.2.1"), at(2, unix.RT_SCOPE_LINK, "fe80::1"),
			at(3, unix.RT_SCOPE_UNIVERSE, "2001:db8::1"), at(3, unix.RT_SCOPE_UNIVERSE, "2001:db8::2"),
			at(4, unix.RT_SCOPE_UNIVERSE, "172.17.0.1"),
		})
	want := []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("172.17.0.1"),
	}
	if diff := cmp.Diff(want, own, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the node's own addresses (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[int]bool{2: true, 3: true}, devices); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

// attached is the Programs of a test.
type attached struct {
	on               []string
	err              error
	attaches, sweeps int
}

func (a *attached) AttachUplink(name string, _ int) error {
	a.attaches++
	if !slices.Contains(a.on, name) {
		a.on = append(a.on, name)
	}
	return a.err
}

func (a *attached) CheckUplink(name string, _ int) error {
	if slices.Contains(a.on, name) {
		return nil
	}
	return errors.New("not attached")
}

func (a *attached) SweepUplinks(keep func(string) bool) error {
	a.sweeps++
	a.on = slices.DeleteFunc(a.on, func(name string) bool { return !keep(name) })
	return nil
}

// Without an address nothing is touched; with one that nobody has, that is told.
func TestSyncWithoutDevice(t *testing.T) {
	programs := &attached{on: []string{"left0"}}
	m := New(programs, &maps.Fake[maps.Addr, uint32]{}, slog.New(slog.DiscardHandler))
	if err := m.Sync(); err != nil || len(programs.on) != 1 {
		t.Errorf("before the addresses are known: %v, on %v", err, programs.on)
	}
	err := m.Use([]netip.Addr{netip.MustParseAddr("203.0.113.77")})
	if !errors.Is(err, ErrNoDevice) || len(programs.on) != 0 {
		t.Errorf("an address that no device has: %v, on %v", err, programs.on)
	}
}

// A daemon puts its own program in the place of the one that it finds, once, and then
// only looks: each netlink dump of upkeep is paid for by every node, twice a minute.
func TestReplacesOnce(t *testing.T) {
	programs := &attached{on: []string{"up0", "left0"}} // by the daemon before
	m := New(programs, &maps.Fake[maps.Addr, uint32]{}, slog.New(slog.DiscardHandler))
	for range 3 {
		if err := m.settle([]device{{"up0", 2}}); err != nil {
			t.Fatal(err)
		}
	}
	if programs.attaches != 1 || programs.sweeps != 1 || !slices.Equal(programs.on, []string{"up0"}) {
		t.Errorf("attached %d times, swept %d times, on %v", programs.attaches, programs.sweeps, programs.on)
	}
	// Somebody took it off; a device of the same name took its place; another came.
	programs.on = nil
	for _, now := range [][]device{{{"up0", 2}}, {{"up0", 3}}, {{"up0", 3}, {"up1", 4}}} {
		if err := m.settle(now); err != nil {
			t.Fatal(err)
		}
	}
	if programs.attaches != 4 || programs.sweeps != 3 || !slices.Equal(programs.on, []string{"up0", "up1"}) {
		t.Errorf("attached %d times, swept %d times, on %v", programs.attaches, programs.sweeps, programs.on)
	}
	// What failed is tried again.
	programs.err = errors.New("busy")
	if err := m.settle([]device{{"up2", 5}}); err == nil {
		t.Error("no error")
	}
	programs.err = nil
	if err := m.settle([]device{{"up2", 5}}); err != nil || programs.attaches != 6 {
		t.Errorf("%v, attached %d times", err, programs.attaches)
	}
}
