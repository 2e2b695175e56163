// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package dns

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/test/await"
	"github.com/waggle-net/waggle/test/sandbox"

	mdns "github.com/miekg/dns"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// quiet is how long nothing must come.
const quiet = 300 * time.Millisecond

// addresses gives the loopback device the addresses of a node, and of those who ask.
func addresses(t *testing.T, addrs ...string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = syscall.IFA_F_NODAD
		if err := netlink.AddrReplace(lo, addr); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netlink.AddrDel(lo, addr) })
	}
}

// TestOutsiders asks from addresses of the cluster and from others, by UDP and TCP.
func TestOutsiders(t *testing.T) {
	addresses(t, "192.0.2.1/32", "2001:db8::1/128", // the node
		"10.244.1.5/32", "fd00:10:244:1::5/128", "198.51.100.7/32", // pods, and another node
		"203.0.113.9/32", "2001:db8:bad::9/128")
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	c.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5353"), netip.MustParseAddrPort("[2001:db8::1]:5353")}
	n := run(t, c)
	<-n.synced

	good := new(mdns.Msg).SetQuestion("web.default.svc.cluster.local.", mdns.TypeA)
	chaos := new(mdns.Msg).SetQuestion("version.bind.", mdns.TypeTXT)
	chaos.Question[0].Qclass = mdns.ClassCHAOS
	empty := new(mdns.Msg)
	version := good.Copy().SetEdns0(1232, false)
	version.IsEdns0().SetVersion(9)
	update := new(mdns.Msg).SetUpdate("cluster.local.")
	for _, test := range []struct {
		from, to string
		answered bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"10.244.1.5", "192.0.2.1", true},
		{"198.51.100.7", "192.0.2.1", true},
		{"fd00:10:244:1::5", "2001:db8::1", true},
		{"203.0.113.9", "192.0.2.1", false},
		{"2001:db8:bad::9", "2001:db8::1", false},
	} {
		for name, query := range map[string]*mdns.Msg{"good": good, "chaos": chaos, "empty": empty, "version": version, "update": update} {
			if got := answeredUDP(t, test.from, test.to, query); got != test.answered {
				t.Errorf("from %s by UDP, query %q is answered: %t, want %t", test.from, name, got, test.answered)
			}
		}
		if got := answeredTCP(t, test.from, test.to, good); got != test.answered {
			t.Errorf("from %s by TCP, the query is answered: %t, want %t", test.from, got, test.answered)
		}
	}
}

func answeredUDP(t *testing.T, from, to string, query *mdns.Msg) bool {
	t.Helper()
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)),
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), 5353)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wire, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(quiet))
	_, err = conn.Read(make([]byte, 1500))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// answeredTCP says whether there is an answer, rather than an end of the connection.
func answeredTCP(t *testing.T, from, to string, query *mdns.Msg) bool {
	t.Helper()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
	conn, err := dialer.DialContext(t.Context(), "tcp", netip.AddrPortFrom(netip.MustParseAddr(to), 5353).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := mdns.Conn{Conn: conn}
	if err := c.WriteMsg(query); err != nil {
		t.Fatal(err)
	}
	_, err = c.ReadMsg()
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return err == nil
}

var links atomic.Int64

// TestLinkLocalNameserver forwards to a nameserver whose address has a zone.
func TestLinkLocalNameserver(t *testing.T) {
	// A name for each run: the net package remembers the number behind one for a minute.
	name := fmt.Sprintf("uplink%d", links.Add(1))
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "peer-" + name}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	addr, err := netlink.ParseAddr("fe80::53/64")
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = syscall.IFA_F_NODAD
	if err := errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "[fe80::53%"+name+"]:53")
	if err != nil {
		t.Fatal(err)
	}
	server := &mdns.Server{PacketConn: packets, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, r *mdns.Msg) {
		m := new(mdns.Msg).SetReply(r)
		if rr, err := mdns.NewRR(r.Question[0].Name + " 300 IN A 192.0.2.80"); err == nil {
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { packets.Close() })

	n := startFollowing(t, testConfig(t, newAPIServer(t, smallCluster).kubeconfig), "fe80::53%"+name)
	await.Until(t, func() error { // the device comes up
		want := "NOERROR\nwww.example.org.\t30\tIN\tA\t192.0.2.80\n"
		if got := n.answer("udp4", "A", "www.example.org."); got != want {
			return errors.New("the answer is " + got)
		}
		return nil
	})
}
