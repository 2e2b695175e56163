// SPDX-License-Identifier: Apache-2.0

//go:build guest

package guest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestVeth: the least a pod network needs. Two namespaces joined by a veth
// pair exchange a datagram and its answer, in both address families.
func TestVeth(t *testing.T) {
	left, right := newNetNS(t), newNetNS(t)
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "left0"}, PeerName: "right0"}
	pair.Namespace = netlink.NsFd(left)
	pair.PeerNamespace = netlink.NsFd(right)
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatalf("add veth pair: %v", err)
	}
	configure(t, left, "left0", "192.0.2.1/24", "2001:db8::1/64")
	configure(t, right, "right0", "192.0.2.2/24", "2001:db8::2/64")
	waitUp(t, left, "left0")
	waitUp(t, right, "right0")

	for _, tt := range []struct{ family, left, right string }{
		{"ipv4", "192.0.2.1:4000", "192.0.2.2:5000"},
		{"ipv6", "[2001:db8::1]:4000", "[2001:db8::2]:5000"},
	} {
		t.Run(tt.family, func(t *testing.T) {
			client, server := listenUDP(t, left, tt.left), listenUDP(t, right, tt.right)
			deadline := time.Now().Add(upTimeout)
			client.SetDeadline(deadline)
			server.SetDeadline(deadline)

			buf := make([]byte, 64)
			if _, err := client.WriteToUDPAddrPort([]byte("question"), mustAddrPort(tt.right)); err != nil {
				t.Fatal(err)
			}
			n, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != "question" {
				t.Fatalf("server got %q, error %v", buf[:n], err)
			}
			if want := mustAddrPort(tt.left); from != want {
				t.Errorf("server saw client %s, want %s", from, want)
			}
			if _, err := server.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
				t.Fatal(err)
			}
			n, err = client.Read(buf)
			if err != nil || string(buf[:n]) != "answer" {
				t.Fatalf("client got %q, error %v", buf[:n], err)
			}
		})
	}
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
