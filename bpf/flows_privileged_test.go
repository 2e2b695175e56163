// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

const (
	ctReply   = uint32(PodCtFlagCT_REPLY)
	ctClosing = uint32(PodCtFlagCT_CLOSING)
)

// entries reads the flow table, the sender's direction first.
func (d *datapath) entries() (forward, reply *PodCtEntry) {
	d.t.Helper()
	var k PodCtKey
	var v PodCtEntry
	it := d.WagConntrack1.Iterate()
	for it.Next(&k, &v) {
		e := v
		if e.Flags&ctReply != 0 {
			reply = &e
		} else {
			forward = &e
		}
	}
	if err := it.Err(); err != nil {
		d.t.Fatal(err)
	}
	return forward, reply
}

// edit changes every entry, as time and other CPUs do.
func (d *datapath) edit(change func(*PodCtEntry)) {
	d.t.Helper()
	all := make(map[PodCtKey]PodCtEntry)
	var k PodCtKey
	var v PodCtEntry
	it := d.WagConntrack1.Iterate()
	for it.Next(&k, &v) {
		all[k] = v
	}
	for k, v := range all {
		change(&v)
		if err := d.WagConntrack1.Put(k, v); err != nil {
			d.t.Fatal(err)
		}
	}
}

// connection is a TCP connection of A with a service whose backend is W.
type connection struct {
	d          *datapath
	c          cast
	out, reply flow
}

func connect(t *testing.T, d *datapath, c cast) *connection {
	t.Helper()
	d.service(c.svc+":80", tcp, 0, c.w+":8080")
	k := &connection{d: d, c: c, out: from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP)}
	syn := k.out
	syn.syn = true
	_, b := d.run(d.FromPod, syn.bytes(t))
	k.reply = flow{
		src: c.w + ":8080", dst: k.out.leaves(t, b).src,
		srcMAC: hostMAC(1), dstMAC: mac(1), ttl: 60, payload: "hello",
	}
	return k
}

// sends lets A send an established packet, and says whether it goes where the
// connection goes.
func (k *connection) sends(t *testing.T, change func(*flow)) bool {
	t.Helper()
	f := k.out
	if change != nil {
		change(&f)
	}
	_, got := k.d.run(k.d.FromPod, f.bytes(t))
	f.src, f.dst = k.reply.dst, k.reply.src
	want := f.bytes(t)
	return string(got) == string(want)
}

// answers lets W answer, and says whether A gets it from the service.
func (k *connection) answers(t *testing.T) bool {
	t.Helper()
	_, got := k.d.run(k.d.ToPod, k.reply.bytes(t))
	want := k.reply
	want.src, want.dst = k.c.svc+":80", k.c.a+":40000"
	return string(got) == string(want.bytes(t))
}

// One direction is silent for longer than its own entry lives.
func TestFlowOneDirectionSilent(t *testing.T) {
	for name, silent := range map[string]uint32{"reply": ctReply, "sender": 0} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, d *datapath, c cast) {
				k := connect(t, d, c)
				k.sends(t, nil)
				k.answers(t)
				d.edit(func(e *PodCtEntry) {
					if e.Flags&ctReply == silent {
						e.LastSeen -= 9000
					}
				})
				if !k.answers(t) || !k.sends(t, nil) {
					t.Error("the flow is forgotten though its other direction lives")
				}
			})
		})
	}
}

// A half-closed connection goes on in the other direction, and is acknowledged.
func TestFlowHalfClosed(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		k := connect(t, d, c)
		k.sends(t, nil)
		k.answers(t)
		k.sends(t, func(f *flow) { f.fin = true })
		d.edit(func(e *PodCtEntry) {
			if e.Flags&ctReply == 0 {
				e.LastSeen -= 60
			}
		})
		if !k.answers(t) || !k.sends(t, nil) {
			t.Error("the half-closed flow is forgotten")
		}
	})
}

// Another CPU has crossed into the next second already.
func TestFlowSeenInTheFuture(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		k := connect(t, d, c)
		d.edit(func(e *PodCtEntry) { e.LastSeen += 2 })
		if !k.sends(t, nil) || !k.answers(t) {
			t.Error("a flow that was seen just now is forgotten")
		}
	})
}

// A reset ends both directions: nobody answers it.
func TestFlowReset(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		k := connect(t, d, c)
		k.sends(t, nil)
		k.answers(t)
		k.sends(t, func(f *flow) { f.rst = true })
		forward, reply := d.entries()
		if forward.Flags&ctClosing == 0 || reply.Flags&ctClosing == 0 || forward.Lifetime > 10 || reply.Lifetime > 10 {
			t.Errorf("after a reset the entries are %+v and %+v", forward, reply)
		}
	})
}

// What never was a connection does not live like one.
func TestFlowWithoutSYN(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", tcp, 0, c.w+":8080")
		d.run(d.FromPod, from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP).bytes(t))
		forward, reply := d.entries()
		if forward.Lifetime > 10 || reply.Lifetime > 10 || reply.Flags&ctClosing == 0 {
			t.Errorf("after an ACK out of nowhere the entries are %+v and %+v", forward, reply)
		}
	})
}

// A new connection from the port of one that ended without a word goes to a
// backend that is there; so does a SYN that is sent again.
func TestFlowNewSYN(t *testing.T) {
	for name, established := range map[string]bool{"after a connection": true, "sent again": false} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, d *datapath, c cast) {
				k := connect(t, d, c)
				if established {
					k.sends(t, nil)
				}
				if err := d.WagBackends1.Put(uint32(1), PodBackend{}); err != nil {
					t.Fatal(err)
				}
				d.service(c.svc+":80", tcp, 8, c.b+":8080")
				syn := k.out
				syn.syn = true
				want := from(1, c.a+":40000", c.b+":8080", layers.IPProtocolTCP).forward(2)
				want.syn = true
				d.expectOut(t, syn.bytes(t), redirect, want, "")
			})
		})
	}
}

// A flow between local pods that came by the host stack, where portmap may have
// translated it, goes back by it; others of the same pods do not.
func TestFlowByStack(t *testing.T) {
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		eachFamily(t, func(t *testing.T, d *datapath, c cast) {
			// A sent it to a port of the node; the stack made it B's.
			in := flow{src: c.a + ":40000", dst: c.b + ":8080", srcMAC: hostMAC(2), dstMAC: mac(2), ttl: 63, proto: proto}
			reply := from(2, c.b+":8080", c.a+":40000", proto)
			d.expect(d.FromPod, reply.bytes(t), redirect, reply.forward(1).bytes(t), "from_pod/delivered=1:%d")

			d.resetCounters()
			if verdict, out := d.runFrom(d.ToPod, in.bytes(t), loopback); verdict != next {
				t.Errorf("verdict is %d, packet %x", verdict, out)
			}
			d.resetCounters()
			d.expect(d.FromPod, reply.bytes(t), next, reply.bytes(t), "from_pod/to_stack=1:%d")

			other := from(2, c.b+":8081", c.a+":40000", proto)
			d.resetCounters()
			d.expect(d.FromPod, other.bytes(t), redirect, other.forward(1).bytes(t), "from_pod/delivered=1:%d")
		})
	}
}

// What the world sends by the stack makes no such flow.
func TestFlowFromWorldIsNotByStack(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		in := flow{src: c.w + ":40000", dst: c.b + ":8080", srcMAC: hostMAC(2), dstMAC: mac(2), ttl: 63}
		d.runFrom(d.ToPod, in.bytes(t), loopback)
		d.flows(0)
		d.marks(2, 0)
	})
}

// An endpoint's flows go with it, and nobody else's.
func TestPurgeFlows(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", tcp, 0, c.w+":8080")
		for port := range uint16(20) {
			for id, src := range map[byte]string{1: c.a, 2: c.b} {
				f := from(id, src+":"+string(rune('1'+port%9))+"0"+string(rune('0'+port/9)), c.svc+":80", layers.IPProtocolTCP)
				f.syn = true
				d.run(d.FromPod, f.bytes(t))
			}
		}
		d.flows(2 * 2 * 20)
		purge := func(id uint32) {
			_, err := d.PodObjects.PurgeFlows.Run(&ebpf.RunOptions{Data: make([]byte, 14), Context: skb{Mark: id}})
			if err != nil {
				t.Fatal(err)
			}
		}
		purge(1)
		d.flows(2 * 20)
		purge(1)
		d.flows(2 * 20)
		purge(2)
		d.flows(0)
	})
}

// Expired flows are swept, live ones are not.
func TestSweepFlows(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		k := connect(t, d, c)
		d.edit(func(e *PodCtEntry) { e.LastSeen -= 9000 })
		udpFlow := from(1, c.a+":40001", c.svc+":53", layers.IPProtocolUDP)
		d.service(c.svc+":53", udp, 8, c.w+":53")
		d.run(d.FromPod, udpFlow.bytes(t))
		d.flows(4)
		if _, err := d.PodObjects.SweepFlows.Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil {
			t.Fatal(err)
		}
		d.flows(2)
		if k.answers(t) {
			t.Error("a flow that was swept still translates")
		}
	})
}

// No daemon, a full table: what has expired makes room.
func TestFullTableSweepsItself(t *testing.T) {
	c := casts["IPv4"]
	d := loadSized(t, map[string]uint32{PodMapWagConntrack1: 4})
	d.populate(c)
	d.service(c.svc+":53", udp, 0, c.w+":53")
	send := func(port string) int {
		verdict, _ := d.run(d.FromPod, from(1, c.a+port, c.svc+":53", layers.IPProtocolUDP).bytes(t))
		return verdict
	}
	if send(":1") != next || send(":2") != next {
		t.Fatal("two flows do not fit in four entries")
	}
	d.edit(func(e *PodCtEntry) { e.LastSeen -= 9000 })
	if send(":3") != next {
		t.Error("expired flows made no room")
	}
	d.flows(2)
}

// A port is moved one to one, so that what the backend knows of a connection
// that ended fits the next one; and no port that a kernel gives to a socket by
// default is moved to another such one.
func TestFlowPortsAreMoved(t *testing.T) {
	taken := make(map[uint16]int)
	for port := range 65536 {
		to := moved(uint16(port))
		if other, ok := taken[to]; ok {
			t.Fatalf("ports %d and %d are both moved to %d", port, other, to)
		}
		taken[to] = port
		if ephemeral := func(p int) bool { return p >= 32768 && p <= 60999 }; ephemeral(port) && ephemeral(int(to)) {
			t.Fatalf("port %d is moved to %d", port, to)
		}
	}
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":53", udp, 0, c.w+":53")
		for _, own := range []uint16{1, 1023, 1024, 20000, 32768, 33279, 33280, 40000, 60999, 61000, 65535} {
			f := from(1, fmt.Sprintf("%s:%d", c.a, own), c.svc+":53", layers.IPProtocolUDP)
			_, got := d.run(d.FromPod, f.bytes(t))
			f.src, f.dst = fmt.Sprintf("%s:%d", c.a, moved(own)), c.w+":53"
			sameBytes(t, fmt.Sprintf("from port %d", own), got, f.bytes(t))
		}
	})
}

// Many services lead one source port to one backend: spare ports are found.
func TestFlowPorts(t *testing.T) {
	c := casts["IPv4"]
	d := load(t)
	d.populate(c)
	const flows = 2500 // of 4536 spare ports
	refused := 0
	for i := range flows {
		service := fmt.Sprintf("%s:%d", c.svc, 1000+i)
		d.service(service, udp, 0, c.w+":53")
		f := from(1, c.a+":40000", service, layers.IPProtocolUDP)
		if verdict, _ := d.run(d.FromPod, f.bytes(t)); verdict == shot {
			refused++
		}
	}
	// Each of 31 tries meets a taken port with a probability below 0.56 at the
	// end: 1 in 60 million flows is refused.
	if refused > 0 {
		t.Errorf("%d of %d flows were refused: %s", refused, flows, d.counters())
	}
}
