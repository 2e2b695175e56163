// SPDX-License-Identifier: Apache-2.0

//go:build guest

package guest

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// upTimeout bounds the wait for a link; an emulated machine is slow.
const upTimeout = 20 * time.Second

// newNetNS makes a network namespace that lives until the test ends.
func newNetNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	var err error
	onThread(func() { ns, err = netns.New() })
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// inNetNS calls f on a thread inside ns. Sockets that f opens stay in ns.
func inNetNS(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	var err error
	onThread(func() {
		if err = netns.Set(ns); err == nil {
			err = f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onThread calls f on a thread of its own, which is destroyed afterwards: it
// never unlocks, so no other goroutine inherits a foreign namespace.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// handle returns a netlink handle inside ns.
func handle(t *testing.T, ns netns.NsHandle) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatalf("open netlink: %v", err)
	}
	t.Cleanup(h.Close)
	return h
}

// configure gives a link its addresses and sets it up. Its peer may still be
// down: waitUp says when it can send.
func configure(t *testing.T, ns netns.NsHandle, name string, addrs ...string) {
	t.Helper()
	h := handle(t, ns)
	link, err := h.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatalf("parse address %s: %v", a, err)
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := h.AddrAdd(link, addr); err != nil {
			t.Fatalf("add address %s: %v", a, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// waitUp returns when the kernel reports a link as operational: until then a
// link drops what it is given.
func waitUp(t *testing.T, ns netns.NsHandle, name string) {
	t.Helper()
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		Namespace: &ns, ListExisting: true,
	})
	if err != nil {
		t.Fatalf("subscribe to links: %v", err)
	}
	timeout := time.After(upTimeout)
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				t.Fatalf("wait for %s: subscription ended", name)
			}
			if u.Link.Attrs().Name == name && u.Link.Attrs().OperState == netlink.OperUp {
				return
			}
		case <-timeout:
			t.Fatalf("wait for %s: not up after %s", name, upTimeout)
		}
	}
}

// listenUDP opens a UDP socket inside ns.
func listenUDP(t *testing.T, ns netns.NsHandle, addr string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	inNetNS(t, ns, func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(mustAddrPort(addr)))
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}
