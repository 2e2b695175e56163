// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package nl

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newNetNS makes a network namespace that lasts as long as its file is open.
func newNetNS(t *testing.T) *os.File {
	t.Helper()
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made)
	go func() {
		// The thread goes home: one that is left to end may be the process's first,
		// which never does, and would be found in the namespace.
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- made{err: err}
			return
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- made{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		err = errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
		if err == nil {
			runtime.UnlockOSThread()
		}
		done <- made{f, err}
	}()
	m := <-done
	if m.err != nil {
		t.Fatalf("make network namespace: %v", m.err)
	}
	t.Cleanup(func() { m.f.Close() })
	return m.f
}

// threadNetNS names the namespace of the calling thread.
func threadNetNS(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWithNetNS(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := threadNetNS(t)
	f := newNetNS(t)
	var inside string
	err := WithNetNS(f, func() error {
		inside = threadNetNS(t)
		return unix.ECANCELED
	})
	if !errors.Is(err, unix.ECANCELED) {
		t.Errorf("error %v, want that of the function", err)
	}
	if inside == home || inside == "" {
		t.Errorf("the function ran in %q, the caller in %q", inside, home)
	}
	if now := threadNetNS(t); now != home {
		t.Errorf("the caller has moved to %s", now)
	}
	assertNoThreadIn(t, inside)

	func() {
		defer func() {
			if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "oops") {
				t.Errorf("recovered %q, want the panic of the function", r)
			}
		}()
		WithNetNS(f, func() error { panic("oops") })
	}()
	assertNoThreadIn(t, inside)

	if err := WithNetNS(f, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error for a function that ends its goroutine")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := WithNetNS(null, func() error { return nil }); !errors.Is(err, unix.EINVAL) {
		t.Errorf("error %v for a file that is no namespace, want EINVAL", err)
	}
}

// assertNoThreadIn looks at each thread of this process.
func assertNoThreadIn(t *testing.T, netns string) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if ns, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && ns == netns {
			t.Errorf("thread %s has stayed in %s", task.Name(), netns)
		}
	}
}

func TestLists(t *testing.T) {
	err := WithNetNS(newNetNS(t), func() error {
		lo, err := LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}})
		if err != nil {
			return err
		}
		err = netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: lo.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IP{10, 0, 0, 9},
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
		})
		if err != nil {
			return err
		}
		links, err1 := LinkList()
		addrs, err2 := AddrList(lo, netlink.FAMILY_ALL)
		qdiscs, err3 := QdiscList(lo)
		filters, err4 := FilterList(lo, netlink.HANDLE_MIN_INGRESS)
		neighs, err5 := NeighList(lo.Attrs().Index, netlink.FAMILY_V4)
		routes, err6 := RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
		isClsact := func(q netlink.Qdisc) bool { return q.Type() == "clsact" }
		if len(links) == 0 || len(addrs) != 2 || !slices.ContainsFunc(qdiscs, isClsact) || len(filters) != 0 || len(neighs) == 0 || len(routes) == 0 {
			t.Errorf("%d links, %d addresses, qdiscs %v, %d filters, %d neighbours, %d routes",
				len(links), len(addrs), qdiscs, len(filters), len(neighs), len(routes))
		}
		return errors.Join(err1, err2, err3, err4, err5, err6)
	})
	if err != nil {
		t.Error(err)
	}
}
