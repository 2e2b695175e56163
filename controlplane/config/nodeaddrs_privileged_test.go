// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package config

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/await"
	"github.com/waggle-net/waggle/test/sandbox"
)

// TestMain: the tests have a network namespace of their own, with nothing in it.
func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

func addDevice(t *testing.T, name string, addrs ...string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	peer, err := netlink.LinkByName(link.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []netlink.Link{peer, link} {
		if err := netlink.LinkSetUp(end); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	return link
}

func addDefault(t *testing.T, link netlink.Link, gateway string) {
	t.Helper()
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr(gateway).AsSlice()}); err != nil {
		t.Fatal(err)
	}
}

func wantNodeAddrs(t *testing.T, texts ...string) {
	t.Helper()
	got, err := NodeAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Addr
	if len(texts) > 0 {
		want = addrs(texts...)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNodeAddrs(t *testing.T) {
	wantNodeAddrs(t) // loopback alone is none
	addDevice(t, "bridge0", "172.17.0.1/16", "fd00:d::1/64")
	wantNodeAddrs(t, "172.17.0.1", "fd00:d::1")
	link := addDevice(t, "eth0", "192.0.2.7/24", "2001:db8:1::7/64")
	addDefault(t, link, "192.0.2.1")
	wantNodeAddrs(t, "192.0.2.7", "2001:db8:1::7")
	addDefault(t, link, "2001:db8:1::1")
	wantNodeAddrs(t, "192.0.2.7", "2001:db8:1::7")
}

// A temporary address, which the kernel prefers for what nodes do by themselves,
// is not the node's.
func TestNodeAddrsNotTemporary(t *testing.T) {
	link := addDevice(t, "eth0")
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth0/use_tempaddr", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("2001:db8:1::7/64")
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NODAD
	addr.ValidLft, addr.PreferedLft = 86400, 86400
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	addDefault(t, link, "2001:db8:1::1")
	await.Until(t, func() error {
		conn, err := net.Dial("udp6", "[2001:db8::1]:9")
		if err != nil {
			return err
		}
		defer conn.Close()
		if conn.LocalAddr().(*net.UDPAddr).IP.Equal(addr.IP) {
			return errors.New("the kernel uses no temporary address")
		}
		return nil
	})
	wantNodeAddrs(t, "2001:db8:1::7")
}
