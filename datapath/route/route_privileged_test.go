// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package route

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

const podMAC = "02:00:00:00:01:07"

func podAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:10:244:1::7")}
}

func dualStack(t *testing.T) Config {
	return Config{
		PodCIDRs:             prefixes(t, "10.244.1.0/24 fd00:10:244:1::/64"),
		ClusterCIDRs:         prefixes(t, "10.244.0.0/16 fd00:10:244::/48"),
		MasqueradeExclusions: prefixes(t, "198.51.100.0/24 2001:db8:9::/48"),
		Masquerade:           true,
	}
}

// nodeWithPod is a host with a foreign route and table, and a device for a pod.
func nodeWithPod(t *testing.T) (node *host, link int) {
	t.Helper()
	node, pod := newHost(t), newHost(t)
	link = node.link("pod0", pod, "02:00:00:00:01:01", podMAC)
	node.sh(`
		ip route add 10.9.0.0/16 dev pod0 proto 77
		ip -6 route add fd09::/64 dev pod0 proto 77
		ip route add unreachable 10.8.0.0/16 proto static
		ip neigh add 10.9.0.9 lladdr 02:00:00:00:09:09 dev pod0 nud permanent
		nft add table inet filter
		nft add chain inet filter input
	`)
	return node, link
}

const foreign = `
	unreachable 10.8.0.0/16 proto static
	10.9.0.0/16 dev pod0 proto 77 scope link
	fd09::/64 dev pod0 proto 77 metric 1024 pref medium`

// The whole of it, as an operator sees it.
func TestState(t *testing.T) {
	node, link := nodeWithPod(t)
	everything := "ip route show table all; ip -6 route show table all; ip neigh | sort; nft list ruleset"
	before := node.sh(everything)
	m := node.manager(dualStack(t))
	node.do("add endpoint", func() error { return m.AddEndpoint(link, podAddrs(), mustMAC(t, podMAC)) })
	node.sync(m)

	node.expect("ip route; ip -6 route", `
		unreachable 10.8.0.0/16 proto static
		10.9.0.0/16 dev pod0 proto 77 scope link
		unreachable 10.244.1.0/24 proto 119
		10.244.1.7 dev pod0 proto 119 scope link
		fd00:10:244:1::7 dev pod0 proto 119 metric 1024 pref medium
		unreachable fd00:10:244:1::/64 dev lo proto 119 metric 1024 pref medium
		fd09::/64 dev pod0 proto 77 metric 1024 pref medium`)
	node.expect("ip neigh show nud permanent | sort", `
		10.244.1.7 dev pod0 lladdr 02:00:00:00:01:07 PERMANENT
		10.9.0.9 dev pod0 lladdr 02:00:00:00:09:09 PERMANENT
		fd00:10:244:1::7 dev pod0 lladdr 02:00:00:00:01:07 PERMANENT`)
	node.expect("nft list table inet waggle", `
		table inet waggle {
			set pods4 {
				type ipv4_addr
				flags interval
				comment "pods of this node"
				elements = { 10.244.1.0/24 }
			}
			set direct4 {
				type ipv4_addr
				flags interval
				comment "these see pods under their own addresses"
				elements = { 10.244.0.0/16, 169.254.0.0/16,
					198.51.100.0/24, 224.0.0.0/4 }
			}
			set pods6 {
				type ipv6_addr
				flags interval
				comment "pods of this node"
				elements = { fd00:10:244:1::/64 }
			}
			set direct6 {
				type ipv6_addr
				flags interval
				comment "these see pods under their own addresses"
				elements = { 2001:db8:9::/48,
					fd00:10:244::/48,
					fe80::/10,
					ff00::/8 }
			}
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				ip saddr @pods4 ip daddr != @direct4 counter masquerade fully-random comment "pods to the world"
				ip6 saddr @pods6 ip6 daddr != @direct6 counter masquerade fully-random comment "pods to the world"
			}
		}`)
	node.expect("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.default.forwarding", "1\n1\n1")

	// A Manager that has seen nothing of this, as for waggled --cleanup.
	fresh := node.manager(dualStack(t))
	node.do("cleanup", func() error { return fresh.Cleanup(t.Context()) })
	if diff := cmp.Diff(before, node.sh(everything)); diff != "" {
		t.Errorf("after cleanup (-before +after):\n%s", diff)
	}
	node.do("cleanup of nothing", func() error { return fresh.Cleanup(t.Context()) })
}

// A Sync where everything is right writes nothing: no event reaches a listener
// before the marker that follows it, and nftables' handles stay.
func TestSyncTwice(t *testing.T) {
	node, link := nodeWithPod(t)
	m := node.manager(dualStack(t))
	node.do("add endpoint", func() error { return m.AddEndpoint(link, podAddrs(), mustMAC(t, podMAC)) })
	node.sync(m)
	handles := node.sh("nft -a list ruleset")

	routes, neighbours := make(chan netlink.RouteUpdate, 16), make(chan netlink.NeighUpdate, 16)
	done := make(chan struct{})
	defer close(done)
	node.do("subscribe", func() error {
		return errors.Join(netlink.RouteSubscribe(routes, done), netlink.NeighSubscribe(neighbours, done))
	})
	node.sync(m)
	node.do("add endpoint again", func() error { return m.AddEndpoint(link, podAddrs()[:1], mustMAC(t, podMAC)) })
	node.sh("ip route add 10.10.0.0/16 dev pod0; ip neigh add 10.10.0.10 lladdr 02:00:00:00:10:10 dev pod0")
	if u := <-routes; u.Dst.String() != "10.10.0.0/16" {
		t.Errorf("the second Sync changed route %s", describe(&u.Route))
	}
	for u := range neighbours {
		// An unchanged entry set again is an event, but of AddEndpoint only.
		if u.IP.String() == "10.10.0.10" {
			break
		}
		if u.IP.String() != podAddrs()[0].String() {
			t.Errorf("the second Sync changed neighbour %s", u.IP)
		}
	}
	if diff := cmp.Diff(handles, node.sh("nft -a list ruleset")); diff != "" {
		t.Errorf("nftables before and after the second Sync:\n%s", diff)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	node, link := nodeWithPod(t)
	m := node.manager(dualStack(t))
	node.do("add endpoint", func() error { return m.AddEndpoint(link, podAddrs(), mustMAC(t, podMAC)) })
	node.sync(m)
	everything := "ip route; ip -6 route; ip neigh show nud permanent | sort; sysctl net.ipv4.ip_forward; nft list table inet waggle 2>&1 || true"
	want := node.sh(everything)
	for _, damage := range []string{
		"ip route del unreachable 10.244.1.0/24",
		"ip -6 route del unreachable fd00:10:244:1::/64",
		"ip route del 10.244.1.7",
		"ip -6 route del fd00:10:244:1::7",
		"ip route replace 10.244.1.7 dev lo proto 119",
		"ip neigh del 10.244.1.7 dev pod0",
		"ip neigh replace 10.244.1.7 lladdr 02:00:00:00:66:66 dev pod0 nud permanent",
		"ip neigh replace fd00:10:244:1::7 lladdr 02:00:00:00:01:07 dev pod0 nud stale",
		"ip link set pod0 down; ip link set pod0 up; ip route add 10.9.0.0/16 dev pod0 proto 77;" +
			" ip -6 route add fd09::/64 dev pod0 proto 77; ip neigh add 10.9.0.9 lladdr 02:00:00:00:09:09 dev pod0 nud permanent",
		"ip route add unreachable 10.77.0.0/16 proto 119", // as of an older configuration
		"ip -6 route add unreachable fd77::/64 proto 119",
		"sysctl -qw net.ipv4.ip_forward=0",
		"nft delete table inet waggle",
		"nft flush chain inet waggle postrouting",
		"nft add table inet waggle '{ flags dormant; }'",
		"nft add element inet waggle direct4 '{ 203.0.113.0/24 }'",
		"nft delete element inet waggle direct6 '{ 2001:db8:9::/48 }'",
		"nft insert rule inet waggle postrouting accept",
		"nft add chain inet waggle other",
	} {
		node.sh(damage)
		if node.sh(everything) == want {
			t.Errorf("%s: damages nothing", damage)
		}
		node.sync(m)
		if diff := cmp.Diff(lines(want), lines(node.sh(everything))); diff != "" {
			t.Fatalf("%s: not repaired (-want +got):\n%s", damage, diff)
		}
	}
}

func TestConfigChange(t *testing.T) {
	node, _ := nodeWithPod(t)
	node.sync(node.manager(dualStack(t)))
	node.sync(node.manager(Config{PodCIDRs: prefixes(t, "10.244.2.0/24 10.244.2.0/24")}))
	node.expect("ip route; ip -6 route", strings.Replace(foreign, "10.9.0.0/16 dev pod0 proto 77 scope link",
		"10.9.0.0/16 dev pod0 proto 77 scope link\nunreachable 10.244.2.0/24 proto 119", 1))
	node.expect("nft list tables", "table inet filter")
}

// Who has the place of a route of ours keeps it, is named, and does not keep us
// from the rest.
func TestOccupied(t *testing.T) {
	node, link := nodeWithPod(t)
	node.sh(`
		ip route add 10.244.1.0/24 dev pod0 proto 77
		ip route add 10.244.1.7 dev lo proto static scope link
		ip -6 route add fd00:10:244:1::7 dev lo proto static
		ip route add unreachable 10.244.1.0/24 metric 5 proto 77
	`)
	m := node.manager(dualStack(t))
	want := `add route unreachable 10.244.1.0/24 proto 119: another route has that prefix and metric: 10.244.1.0/24 dev pod0 proto 77`
	if err := node.try(func() error { return m.Sync(t.Context()) }); !errors.Is(err, ErrOccupied) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	err := node.try(func() error { return m.AddEndpoint(link, podAddrs(), mustMAC(t, podMAC)) })
	want = `add route 10.244.1.7 dev pod0 proto 119: another route has that prefix and metric: 10.244.1.7 dev lo proto static
add route fd00:10:244:1::7 dev pod0 proto 119: another route has that prefix and metric: fd00:10:244:1::7 dev lo proto static metric 1024`
	if !errors.Is(err, ErrOccupied) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	node.expect("ip route show 10.244.1.0/24; ip route show 10.244.1.7; ip -6 route show fd00:10:244:1::/64; ip -6 route show fd00:10:244:1::7", `
		10.244.1.0/24 dev pod0 proto 77 scope link
		unreachable 10.244.1.0/24 proto 77 metric 5
		10.244.1.7 dev lo proto static scope link
		unreachable fd00:10:244:1::/64 dev lo proto 119 metric 1024 pref medium
		fd00:10:244:1::7 dev lo proto static metric 1024 pref medium`)
	node.expect("nft list tables", "table inet filter\ntable inet waggle")
}
