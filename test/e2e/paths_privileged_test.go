// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/lab"
)

// TestPaths walks every path that pods have, in both families, by TCP and UDP,
// and checks whose address the other side sees.
func TestPaths(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1, 1}, Client: true})
	n1, n2, client := l.Host("node1"), l.Host("node2"), l.Client()
	a, b, c := addPod(t, n1, "a"), addPod(t, n1, "b"), addPod(t, n2, "c")
	for _, s := range []commander{onPod{a}, onPod{b}, onPod{c}, onHost{n1}, onHost{n2}, onHost{client}} {
		serve(t, s)
	}
	hosts := func(h *lab.Host) []netip.Addr { return h.Addrs() }
	for _, path := range []struct {
		name     string
		from     commander
		fromIPs  []netip.Addr // as the other side must see them
		to       []netip.Addr
		skips    bool // the host stack
		viaStack string
	}{
		{"pod to pod, one node", onPod{a}, a.IPs, b.IPs, true, ""},
		{"pod to pod, two nodes", onPod{a}, a.IPs, c.IPs, false, ""},
		{"pod to itself", onPod{a}, a.IPs, a.IPs, false, ""},
		{"pod to its node", onPod{a}, a.IPs, hosts(n1), false, ""},
		{"node to its pod", onHost{n1}, nil, a.IPs, false, ""},
		{"node to a remote pod", onHost{n1}, hosts(n1), c.IPs, false, ""},
		{"pod to the world, masqueraded", onPod{a}, hosts(n1), hosts(client), false, ""},
		{"world to pod", onHost{client}, hosts(client), a.IPs, false, ""},
	} {
		for _, to := range path.to {
			for _, mode := range []string{"tcp", "udp", "sendto"} {
				t.Run(fmt.Sprintf("%s/%s/%s", path.name, mode, family(to)), func(t *testing.T) {
					before := counter(t, n1, "from_pod/to_stack")
					got := asks(t, path.from, mode, at(to, port))
					if got.Error != "" {
						t.Fatalf("error %s", got.Error)
					}
					if got.From != at(to, port) {
						t.Errorf("the answer came from %s, not %s", got.From, at(to, port))
					}
					if path.fromIPs != nil && host(got.Caller) != ofFamily(path.fromIPs, to) {
						t.Errorf("the server saw %s, want %s", got.Caller, ofFamily(path.fromIPs, to))
					}
					if after := counter(t, n1, "from_pod/to_stack"); path.skips && after != before {
						t.Errorf("%d packets went through the host stack", after-before)
					}
				})
			}
		}
	}
	// No ARP, and nothing dropped but what pods' kernels say to the link.
	for _, h := range l.Nodes() {
		for _, c := range daemonStatus(t, h).Counters {
			if c.Drop && c.Name != "link_scope" {
				t.Errorf("%s dropped %d packets at %s: %s", h.Name, c.Packets, c.Hook, c.Name)
			}
		}
		if s := daemonStatus(t, h); !s.Healthy() {
			t.Errorf("%s is not healthy: %s", h.Name, problemText(s))
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func host(ap string) netip.Addr {
	p, err := netip.ParseAddrPort(ap)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

// TestServices reaches ClusterIPs from pods and nodes by the socket, and per
// packet from what no socket hook sees.
func TestServices(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{2}})
	n1, n2 := l.Host("node1"), l.Host("node2")
	a, b, c := addPod(t, n1, "a"), addPod(t, n1, "b"), addPod(t, n2, "c")
	for _, p := range []*lab.Pod{a, b, c} {
		serve(t, onPod{p})
	}
	ips := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")}
	service := func(name string, n byte, backends ...lab.Backend) lab.Service {
		s := lab.Service{Name: name}
		for _, ip := range ips {
			raw := ip.AsSlice()
			raw[len(raw)-1] = n
			vip, _ := netip.AddrFromSlice(raw)
			s.ClusterIPs = append(s.ClusterIPs, vip)
		}
		for _, proto := range []string{"TCP", "UDP"} {
			s.Ports = append(s.Ports, lab.ServicePort{Name: strings.ToLower(proto), Protocol: proto, Port: 80, Backends: backends})
		}
		return s
	}
	local := service("local", 10, lab.PodBackends(port, b)...)
	remote := service("remote", 11, lab.PodBackends(port, c)...)
	itself := service("itself", 12, lab.PodBackends(port, a)...)
	empty := service("empty", 13)
	both := service("both", 14, lab.PodBackends(port, b, c)...)
	applyIntent(t, l, local, remote, itself, empty, both)

	for _, s := range []lab.Service{local, remote, itself, both} {
		for _, vip := range s.ClusterIPs {
			for _, from := range []commander{onPod{a}, onHost{n1}} {
				for _, mode := range []string{"tcp", "udp", "sendto"} {
					t.Run(fmt.Sprintf("socket/%s/%s/%s/%s", s.Name, family(vip), from, mode), func(t *testing.T) {
						got := asks(t, from, mode, at(vip, 80))
						if got.Error != "" || got.From != at(vip, 80) {
							t.Errorf("answer from %s, error %q, want one from %s", got.From, got.Error, at(vip, 80))
						}
						if got.Peer != "" && got.Peer != at(vip, 80) {
							t.Errorf("the peer's name is %s, want %s", got.Peer, at(vip, 80))
						}
						// cilium #26100: a pod that reaches itself sees its own address.
						if _, pod := from.(onPod); pod && host(got.Caller) != ofFamily(a.IPs, vip) {
							t.Errorf("the server saw %s, want %s", got.Caller, ofFamily(a.IPs, vip))
						}
					})
				}
			}
			// Do runs in this process, which is in none of the lab's cgroups.
			for _, mode := range []string{"tcp", "udp", "sendto"} {
				t.Run(fmt.Sprintf("packet/%s/%s/%s", s.Name, family(vip), mode), func(t *testing.T) {
					before := counter(t, n1, "from_pod/translated")
					var got answer
					if err := a.Do(func() error { got = ask(mode, at(vip, 80)); return nil }); err != nil {
						t.Fatal(err)
					}
					if got.Error != "" || got.From != at(vip, 80) {
						t.Errorf("answer from %s, error %q, want one from %s", got.From, got.Error, at(vip, 80))
					}
					if counter(t, n1, "from_pod/translated") == before {
						t.Error("no packet was translated: this went another way")
					}
				})
			}
		}
	}
	t.Run("no backend", func(t *testing.T) {
		for _, vip := range empty.ClusterIPs {
			for _, mode := range []string{"tcp", "udp", "sendto"} {
				if got := asks(t, onPod{a}, mode, at(vip, 80)); got.Error != "ECONNREFUSED" {
					t.Errorf("%s %s: error is %q, want ECONNREFUSED", mode, vip, got.Error)
				}
			}
		}
	})
	t.Run("backend goes and comes", func(t *testing.T) {
		gone := service("both", 14, lab.PodBackends(port, b)...)
		applyIntent(t, l, local, remote, itself, empty, gone)
		err := eventually(t, func() error {
			for _, s := range daemonStatus(t, n1).Services {
				if s.Name == "both" && s.Ready != 1 {
					return fmt.Errorf("%s has %d ready backends", s.Address, s.Ready)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			got := asks(t, onPod{a}, "tcp", at(gone.ClusterIPs[0], 80))
			if got.Error != "" || host(got.Server) != b.Addr(true) {
				t.Errorf("answered by %s (%s), want %s", got.Server, got.Error, b.Addr(true))
			}
		}
	})
}

// TestNodePortByOthers: something else on the node (portmap, docker) translates
// a port of the node to a pod. Another pod of the node uses it: the packets of
// both directions must pass the stack, where the translation is.
func TestNodePortByOthers(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	a, b := addPod(t, n1, "a"), addPod(t, n1, "b")
	serve(t, onPod{b})
	ruleset := fmt.Sprintf(`table inet portmap {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		meta l4proto { tcp, udp } th dport 9000 dnat ip to %s:%d
		meta l4proto { tcp, udp } th dport 9000 dnat ip6 to [%s]:%d
	}
}`, b.Addr(true), port, b.Addr(false), port)
	cmd := n1.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, ip := range n1.Addrs() {
		for _, mode := range []string{"tcp", "udp", "sendto"} {
			got := asks(t, onPod{a}, mode, at(ip, 9000))
			if got.Error != "" || got.From != at(ip, 9000) || host(got.Caller) != ofFamily(a.IPs, ip) {
				t.Errorf("%s to %s: answer from %s, caller seen as %s, error %q", mode, at(ip, 9000), got.From, got.Caller, got.Error)
			}
		}
	}
	// What the two say to each other directly still skips the stack.
	for _, ip := range b.IPs {
		before := counter(t, n1, "from_pod/to_stack")
		if got := asks(t, onPod{a}, "tcp", at(ip, port)); got.Error != "" {
			t.Errorf("directly: %s", got.Error)
		}
		if after := counter(t, n1, "from_pod/to_stack"); after != before {
			t.Errorf("%d packets of a direct connection went through the stack", after-before)
		}
	}
}

// TestSpoofing: a pod cannot send with another's address.
func TestSpoofing(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	a, b := addPod(t, n1, "a"), addPod(t, n1, "b")
	for i, ip := range []string{"10.244.1.200", "fd00:10:244:1::200"} {
		if out, err := a.Run(t.Context(), "ip", "addr", "add", ip, "dev", "eth0", "nodad"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		before := counter(t, n1, "from_pod/spoofed")
		err := a.Do(func() error {
			c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)),
				net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.IPs[i], port)))
			if err != nil {
				return err
			}
			defer c.Close()
			for range 3 {
				if _, err := c.Write([]byte("x")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := counter(t, n1, "from_pod/spoofed") - before; got != 3 {
			t.Errorf("%s: %d packets counted as spoofed, want 3", ip, got)
		}
	}
}

// TestDevices: udev's MACAddressPolicy rewrites a device's address unless it
// was set at creation; and pods need neither ARP nor ND.
func TestDevices(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	a := addPod(t, n1, "a")
	b := addPod(t, n1, "b")
	serve(t, onPod{b})
	const setByUser = "3" // NET_ADDR_SET in linux/netdevice.h
	dev := daemonStatus(t, n1).Endpoints[0].HostDevice
	for _, at := range []struct{ where, path string }{
		{"host", "/sys/class/net/" + dev + "/addr_assign_type"},
		{"pod", "/sys/class/net/eth0/addr_assign_type"},
	} {
		run := n1.Run
		if at.where == "pod" {
			run = func(ctx ctx, name string, args ...string) (string, error) {
				// The pod's view of /sys is the host's: ask in a new mount.
				return a.Run(ctx, "unshare", "-m", "sh", "-c", "mount -t sysfs sysfs /sys && "+name+" "+strings.Join(args, " "))
			}
		}
		out, err := run(t.Context(), "cat", at.path)
		if err != nil || strings.TrimSpace(out) != setByUser {
			t.Errorf("%s: addr_assign_type is %q (%v), want %s", at.where, strings.TrimSpace(out), err, setByUser)
		}
	}
	for _, ip := range b.IPs {
		asks(t, onPod{a}, "tcp", at(ip, port))
	}
	out, err := a.Run(t.Context(), "ip", "neigh", "show", "nud", "all")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "PERMANENT") && !strings.Contains(line, "NOARP") {
			t.Errorf("a neighbour that had to be asked for: %s", line)
		}
	}
}

// TestLimits: what a router would answer is answered though the stack is
// skipped: TTL exceeded and packets that are too big.
func TestLimits(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	start(t, n1)
	a := addPod(t, n1, "a")
	// The network's MTU shrinks: b's device takes less than a sends.
	kill(t, n1)
	start(t, n1, "mtu: 1300")
	b := addPod(t, n1, "b")
	serve(t, onPod{b})
	for _, ip := range b.IPs {
		t.Run(family(ip), func(t *testing.T) {
			if err := a.Do(func() error { return expectPacketTooBig(ip) }); err != nil {
				t.Errorf("too big: %v", err)
			}
			if err := a.Do(func() error { return expectTimeExceeded(ip) }); err != nil {
				t.Errorf("time exceeded: %v", err)
			}
		})
	}
}
