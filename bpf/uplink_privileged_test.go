// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
)

// The node's addresses, by the family of a cast.
var nodeAddrs = map[bool]string{true: "198.18.0.11", false: "[2001:db8::b]"}

func (c cast) node() string { return nodeAddrs[netip.MustParseAddr(strings.Trim(c.a, "[]")).Is4()] }

// nodePort makes the node's address known, and a node port on it.
func (d *datapath) nodePort(c cast, port string, proto uint8, backends ...string) {
	d.t.Helper()
	if err := d.uplink.WagNodeAddrs1.Put(addr(strings.Trim(c.node(), "[]")), uint32(1)); err != nil {
		d.t.Fatal(err)
	}
	d.service(c.node()+":"+port, proto, 0, backends...)
}

// fromWorld is a packet that comes in by the uplink.
func fromWorld(src, dst string, proto layers.IPProtocol) flow {
	return flow{src: src, dst: dst, srcMAC: mac(9), dstMAC: hostMAC(9), ttl: 60, proto: proto, payload: "hello"}
}

// uplinkRoute gives the tests' namespace a device and a route to the world, so that
// the kernel knows a way out.
func uplinkRoute(t *testing.T, c cast) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "wagup0"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "wagup1"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.LinkDel(veth) })
	for _, name := range []string{"lo", "wagup0", "wagup1"} {
		lnk, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lnk); err != nil {
			t.Fatal(err)
		}
	}
	bits := map[bool]string{true: "/24", false: "/64"}
	gateway := map[bool]string{true: "198.18.0.1", false: "2001:db8::1"}
	world := map[bool]string{true: "203.0.113.0/24", false: "2001:db8:ff::/64"}
	is4 := c.node()[0] != '['
	a, err := netlink.ParseAddr(strings.Trim(c.node(), "[]") + bits[is4])
	if err != nil {
		t.Fatal(err)
	}
	a.Flags = 0x02 // IFA_F_NODAD
	lnk, err := netlink.LinkByName("wagup0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lnk, a); err != nil {
		t.Fatal(err)
	}
	dst, err := netlink.ParseIPNet(world[is4])
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netip.MustParseAddr(gateway[is4]).AsSlice()}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A client's connection to a node port whose backend is a local pod, from the first
// packet to the answer: each output is the next program's input.
func TestNodePort(t *testing.T) {
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		t.Run(proto.String(), func(t *testing.T) {
			eachFamily(t, func(t *testing.T, d *datapath, c cast) {
				uplinkRoute(t, c)
				d.nodePort(c, "30080", uint8(proto), c.b+":8080")

				in := fromWorld(c.w+":40000", c.node()+":30080", proto)
				in.syn = true
				want := fromWorld(c.w+":40000", c.b+":8080", proto).forward(2)
				want.syn = true
				got, out := d.run(d.uplink.FromNetwork, in.bytes(t))
				want = want.leaves(t, out)
				if got != redirect {
					t.Errorf("verdict is %d", got)
				}
				sameBytes(t, "delivered", out, want.bytes(t))
				if have, want := d.counters(), withLength("from_network/delivered=1:%d from_network/translated=1:%d", len(out)); have != want {
					t.Errorf("counters are %q, want %q", have, want)
				}
				d.marks(2, 1)
				d.marks(0, 1)
				d.flows(2)

				// The answer leaves in the node's name, past the stack.
				reply := from(2, c.b+":8080", want.src, proto)
				answer := reply
				answer.src, answer.dst, answer.ttl = c.node()+":30080", c.w+":40000", reply.ttl-1
				d.resetCounters()
				d.expect(d.FromPod, reply.bytes(t), redirect, answer.bytes(t), "from_pod/translated=1:%d from_pod/sent=1:%d")

				// What B says to the world by itself is the stack's.
				other := from(2, c.b+":8080", c.w+":40000", proto)
				d.resetCounters()
				d.expect(d.FromPod, other.bytes(t), next, other.bytes(t), "from_pod/to_stack=1:%d")

				// An established flow outlives its service.
				if err := d.WagFrontends1.Delete(frontendKey(c.node(), 30080, uint8(proto))); err != nil {
					t.Fatal(err)
				}
				in.syn, want.syn = false, false
				got, out = d.run(d.uplink.FromNetwork, in.bytes(t))
				if got != redirect {
					t.Errorf("after the service went: verdict is %d", got)
				}
				sameBytes(t, "after the service went", out, want.bytes(t))

				// With the pod its flows go, both directions.
				run := ebpf.RunOptions{Data: make([]byte, 14), Context: skb{Mark: 2}}
				if _, err := d.PodObjects.PurgeFlows.Run(&run); err != nil {
					t.Fatal(err)
				}
				d.flows(0)
			})
		})
	}
}

// What is no service's, or nobody's to send, is the stack's or dropped.
func TestFromNetwork(t *testing.T) {
	const tcpOnly = layers.IPProtocolTCP
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.nodePort(c, "30080", tcp, c.b+":8080")
		d.service(c.node()+":30081", tcp, 8, c.w+":80")
		d.service(c.node()+":30082", tcp, 16)
		d.service(c.svc+":80", tcp, 24)
		loop := map[bool]string{true: "127.0.0.1", false: "[::1]"}[c.node()[0] != '[']
		group := map[bool]string{true: "224.0.0.5", false: "[ff02::5]"}[c.node()[0] != '[']
		for _, row := range []struct {
			name     string
			in       flow
			verdict  int
			counters string
		}{
			{"to the node itself", fromWorld(c.w+":40000", c.node()+":22", tcpOnly), next, ""},
			{"another protocol on the port", fromWorld(c.w+":40000", c.node()+":30080", layers.IPProtocolUDP), next, ""},
			{"to a pod", fromWorld(c.w+":40000", c.b+":80", tcpOnly), next, ""},
			{"in a pod's name", fromWorld(c.a+":40000", c.node()+":30080", tcpOnly), shot, "from_network/drop-133=1:%d"},
			{"in the node's name", fromWorld(c.node()+":40000", c.node()+":30080", tcpOnly), shot, "from_network/drop-133=1:%d"},
			{"from loopback", fromWorld(loop+":40000", c.node()+":30080", tcpOnly), shot, "from_network/drop-133=1:%d"},
			{"from a group", fromWorld(group+":40000", c.node()+":30080", tcpOnly), shot, "from_network/drop-133=1:%d"},
			{"backend elsewhere", fromWorld(c.w+":40000", c.node()+":30081", tcpOnly), shot, "from_network/drop-142=1:%d"},
			{"the node refuses where there is no backend", fromWorld(c.w+":40000", c.node()+":30082", tcpOnly), next, ""},
			{"a cluster address has nobody to refuse", fromWorld(c.w+":40000", c.svc+":80", tcpOnly), shot, "from_network/drop-135=1:%d"},
		} {
			d.resetCounters()
			in := row.in.bytes(t)
			got, out := d.run(d.uplink.FromNetwork, in)
			if got != row.verdict {
				t.Errorf("%s: verdict is %d, want %d", row.name, got, row.verdict)
			}
			sameBytes(t, row.name, out, in)
			if have, want := d.counters(), withLength(row.counters, len(in)); have != want {
				t.Errorf("%s: counters are %q, want %q", row.name, have, want)
			}
		}
		d.flows(0)
	})
}

// The last hop ends here, whichever way a packet goes.
func TestNodePortLastHop(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.nodePort(c, "30080", tcp, c.b+":8080")
		in := fromWorld(c.w+":40000", c.node()+":30080", layers.IPProtocolTCP)
		in.ttl = 1
		if got, _ := d.run(d.uplink.FromNetwork, in.bytes(t)); got != shot {
			t.Errorf("in: verdict is %d", got)
		}
		if have := d.counters(); !strings.Contains(have, "from_network/drop-143=1") {
			t.Errorf("counters are %q", have)
		}
		in.ttl = 60
		_, out := d.run(d.uplink.FromNetwork, in.bytes(t))
		reply := from(2, c.b+":8080", in.leaves(t, out).src, layers.IPProtocolTCP)
		reply.ttl = 1
		d.resetCounters()
		if got, _ := d.run(d.FromPod, reply.bytes(t)); got != shot {
			t.Errorf("out: verdict is %d", got)
		}
		if have := d.counters(); !strings.Contains(have, "from_pod/drop-143=1") {
			t.Errorf("counters are %q", have)
		}
	})
}
