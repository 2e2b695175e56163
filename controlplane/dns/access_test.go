// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"testing"
)

func TestMayAsk(t *testing.T) {
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	c.NodeAddrs = []netip.Addr{netip.MustParseAddr("2001:db8::7")}
	n := run(t, c)
	<-n.synced
	s := running.Load()
	for _, test := range []struct {
		from string
		want bool
	}{
		{"127.0.0.1", true},
		{"127.0.0.2", true},
		{"::1", true},
		{"::ffff:127.0.0.1", true},
		{"10.244.3.4", true},        // a pod
		{"fd00:10:244:1::5", true},  // a pod
		{"::ffff:10.244.3.4", true}, // a pod, as a dual-stack socket sees it
		{"fd00:10:244:1::5%eth0", true},
		{"2001:db8::7", true},  // listed
		{"198.51.100.7", true}, // an endpoint of the cluster DNS service
		{"198.51.100.8", false},
		{"10.245.0.1", false},
		{"10.96.0.20", false}, // a service asks nothing
		{"2001:db8::8", false},
		{"fe80::1%eth0", false},
		{"0.0.0.0", false},
	} {
		ap := netip.AddrPortFrom(netip.MustParseAddr(test.from), 1024)
		for _, a := range []net.Addr{net.UDPAddrFromAddrPort(ap), net.TCPAddrFromAddrPort(ap)} {
			if got := s.mayAsk(addrOf(a)); got != test.want {
				t.Errorf("%s %s may ask: %t, want %t", a.Network(), a, got, test.want)
			}
		}
	}
	if s.mayAsk(addrOf(&net.UnixAddr{})) {
		t.Error("an address of another kind may ask")
	}
}
