// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/test/lab"
)

// ip runs ip(8) in the namespace that stands for the machine's.
func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestMachineLink: the machine reaches hosts and what is behind them, and they it. All
// that it has got is one device, and what names that device.
func TestMachineLink(t *testing.T) {
	before := withoutLabs(machineState(t))
	l := lab.ForTest(t, lab.Topology{Name: "tlink", Racks: []int{1, 1}, Machine: true})
	node := l.Host("node2")
	// As a pod's: an address of its range, behind the node.
	podAddrs := []netip.Addr{netip.MustParseAddr("10.244.2.9"), netip.MustParseAddr("fd00:10:244:2::9")}
	err := node.DoNet(func() error {
		lo, err := netlink.LinkByName("lo")
		for _, a := range podAddrs {
			if err == nil {
				address, _ := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
				err = netlink.AddrAdd(lo, address)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	serveTCP(t, node)
	for _, to := range slices.Concat(node.Addrs(), podAddrs) {
		if err := dial(to.String()); err != nil {
			t.Errorf("the machine to %s: %v", to, err)
		}
	}
	for _, to := range l.MachineAddrs() {
		for _, from := range append(node.Addrs(), podAddrs...) {
			if from.Is4() != to.Is4() {
				continue
			}
			if out, err := node.Run(t.Context(), "ping", "-c1", "-W5", "-I", from.String(), to.String()); err != nil {
				t.Errorf("%s to the machine: %v\n%s", from, err, out)
			}
		}
	}

	got := ip(t, "-br addr show dev wgl-tlink") + ip(t, "-4 route show dev wgl-tlink") + ip(t, "-6 route show dev wgl-tlink")
	got = regexp.MustCompile(`@if\d+ +`).ReplaceAllString(got, " ")
	want := `wgl-tlink UP             198.19.255.2/24 2001:db8:fe::2/64 fe80::2/64 
10.244.0.0/16 via 198.19.255.1 src 198.19.255.2 
198.18.0.0/24 via 198.19.255.1 src 198.19.255.2 
198.18.1.0/24 via 198.19.255.1 src 198.19.255.2 
198.19.255.0/24 proto kernel scope link src 198.19.255.2 
2001:db8::/64 via 2001:db8:fe::1 src 2001:db8:fe::2 metric 1024 pref medium
2001:db8:1::/64 via 2001:db8:fe::1 src 2001:db8:fe::2 metric 1024 pref medium
2001:db8:fe::/64 proto kernel metric 256 pref medium
fd00:10:244::/48 via 2001:db8:fe::1 src 2001:db8:fe::2 metric 1024 pref medium
fe80::/64 proto kernel metric 256 pref medium
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses and routes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, withoutDevice(machineState(t), "wgl-tlink")); diff != "" {
		t.Errorf("besides its device (-before +during):\n%s", diff)
	}
	if err := lab.Down(t.Context(), l.Name); err != nil {
		t.Fatal(err)
	}
	assertNoTraces(t, l.Name)
	if diff := cmp.Diff(before, withoutLabs(machineState(t))); diff != "" {
		t.Errorf("after down (-before +after):\n%s", diff)
	}
}

// withoutLabs removes what other labs, of other tests, may have at the same time.
func withoutLabs(state map[string]string) map[string]string {
	delete(state, "folder /run/waggle-lab")
	delete(state, "folder /run/netns")
	return state
}

// withoutDevice removes what is about a device, too.
func withoutDevice(state map[string]string, device string) map[string]string {
	for command, text := range withoutLabs(state) {
		var kept strings.Builder
		skipping := false
		for line := range strings.Lines(text) {
			// What belongs to the line of a device is indented below it.
			skipping = strings.Contains(line, device) || strings.Contains(line, "198.19.255.2 ") ||
				strings.HasPrefix(line, " ") && skipping
			if !skipping {
				kept.WriteString(line)
			}
		}
		state[command] = kept.String()
	}
	return state
}

// TestMachineCollisions: what the machine's network has already keeps a lab away, and
// the message says what and where.
func TestMachineCollisions(t *testing.T) {
	topology := lab.Topology{Name: "tcoll", Machine: true}
	for _, row := range []struct {
		name, make, undo string
		want             []string
	}{
		{"an address", "addr add 198.18.0.7/24 dev lo", "addr del 198.18.0.7/24 dev lo",
			[]string{"device lo has the address 198.18.0.7/24, within the lab's 198.18.0.0/24", "ip address del 198.18.0.7/24 dev lo"}},
		{"a route", "route add 10.0.0.0/8 dev lo", "route del 10.0.0.0/8 dev lo",
			[]string{"route 10.0.0.0/8 dev lo (table 254) overlaps the lab's 10.244.0.0/16"}},
		{"a route of another table", "-6 route add fd00::/8 dev lo table 52", "-6 route del fd00::/8 dev lo table 52",
			[]string{"ip route del fd00::/8 dev lo table 52"}},
		{"a hole", "route add unreachable 198.18.0.0/15", "route del unreachable 198.18.0.0/15",
			[]string{"ip route del 198.18.0.0/15 table 254"}},
		{"a table that comes before main", "route add default dev lo table 77", "route flush table 77",
			[]string{"the machine sends it to device lo by table 77", "ip rule"}},
		{"a device of that name", "link add wgl-tcoll type veth peer name tcoll-peer", "link del wgl-tcoll",
			[]string{"ip link del wgl-tcoll"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			ip(t, row.make)
			defer ip(t, row.undo)
			if strings.Contains(row.make, "table 77") {
				ip(t, "rule add from all lookup 77 priority 100")
				defer ip(t, "rule del priority 100")
			}
			before := withoutLabs(machineState(t))
			_, err := lab.Up(t.Context(), topology)
			if err == nil {
				lab.Down(t.Context(), topology.Name)
				t.Fatal("the lab is up")
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want %q", err, want)
				}
			}
			if diff := cmp.Diff(before, withoutLabs(machineState(t))); diff != "" {
				t.Errorf("what was there is not as it was (-before +after):\n%s", diff)
			}
		})
	}
	assertNoTraces(t, topology.Name)
	// And without them, it comes up.
	l := lab.ForTest(t, topology)
	_, err := lab.Up(t.Context(), lab.Topology{Name: "tcoll2", Machine: true})
	if err == nil || !strings.Contains(err.Error(), "waggle-lab down --name tcoll") {
		t.Errorf("a second lab: got error %v", err)
	}
	assertNoTraces(t, "tcoll2")
	if err := dial(l.Host("node1").IPv4.String()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the first lab does not answer any more: %v", err)
	}
}

// TestMachineDefaultRoutes: a VPN that takes everything hides no lab.
func TestMachineDefaultRoutes(t *testing.T) {
	for _, prefix := range []string{"0.0.0.0/1", "128.0.0.0/1", "::/3", "2000::/4", "3000::/4", "fc00::/7"} {
		ip(t, "route add "+prefix+" dev lo")
		defer ip(t, "route del "+prefix+" dev lo")
	}
	lab.ForTest(t, lab.Topology{Name: "tvpn", Machine: true})
}

// TestJoinMachine: a link that somebody took away or changed is made again.
func TestJoinMachine(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Name: "tjoin", Machine: true})
	want := ip(t, "-4 route")
	for _, damage := range []string{"link del wgl-tjoin", "link set wgl-tjoin down", "addr flush dev wgl-tjoin", "route del 10.244.0.0/16", "link set lo up"} {
		ip(t, damage)
		if err := l.JoinMachine(t.Context()); err != nil {
			t.Errorf("after ip %s: %v", damage, err)
		}
		if got := ip(t, "-4 route"); got != want {
			t.Errorf("after ip %s: routes are\n%s\nand were\n%s", damage, got, want)
		}
	}
	alone := lab.ForTest(t, lab.Topology{Name: "tjoin2"})
	if err := alone.JoinMachine(t.Context()); err == nil {
		t.Error("joined a lab that was made without a link")
	}
}

// TestStartOutside: what a lab runs on the machine is in its network, and goes with it.
func TestStartOutside(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Name: "tout", Machine: true})
	p, err := l.StartOutside(t.Context(), "sleeper", "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.Pid)); its != own {
		t.Errorf("it is in %s, and the machine in %s (%v)", its, own, err)
	}
	if again, err := l.Router().Process("sleeper"); err != nil || again.Pid != p.Pid {
		t.Errorf("found %+v, %v", again, err)
	}
	if err := lab.Down(t.Context(), l.Name); err != nil {
		t.Fatal(err)
	}
	if p.Running() {
		if err := p.Wait(t.Context()); err == nil {
			t.Error("it ended by itself")
		}
	}
}

// TestRoutePods: Kubernetes may give a node another range than the lab's plan.
func TestRoutePods(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Name: "troute", Racks: []int{2}})
	node := l.Host("node2")
	ranges := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244::/64")}
	for range 2 {
		if err := node.RoutePods(ranges...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := l.Router().Run(t.Context(), "sh", "-c", "ip -4 route show to root 10.244.0.0/16; ip -6 route show to root fd00:10:244::/48")
	want := `10.244.0.0/24 via 198.18.0.12 dev rack0 
10.244.1.0/24 via 198.18.0.12 dev rack0 
10.244.2.0/24 via 198.18.0.12 dev rack0 
fd00:10:244::/64 via 2001:db8::c dev rack0 metric 1024 pref medium
fd00:10:244:1::/64 via 2001:db8::b dev rack0 metric 1024 pref medium
fd00:10:244:2::/64 via 2001:db8::c dev rack0 metric 1024 pref medium
`
	if diff := cmp.Diff(want, out); err != nil || diff != "" {
		t.Errorf("routes (-want +got), error %v:\n%s", err, diff)
	}
}
