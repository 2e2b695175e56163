// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const (
	tcp  = uint8(layers.IPProtocolTCP)
	udp  = uint8(layers.IPProtocolUDP)
	sctp = uint8(layers.IPProtocolSCTP)
)

// forward is what deliver does to a packet for the endpoint of that number.
func (f flow) forward(id byte) flow {
	f.ttl--
	f.srcMAC, f.dstMAC = hostMAC(id), mac(id)
	return f
}

func from(id byte, src, dst string, proto layers.IPProtocol) flow {
	return flow{src: src, dst: dst, srcMAC: mac(id), dstMAC: hostMAC(id), ttl: 64, proto: proto, payload: "hello"}
}

// leaves replaces the source port of an expected packet by the one that a
// translated packet left from, and makes sure that it is one for it: the
// sender's own, moved half way round, or a spare one.
func (f flow) leaves(t testing.TB, out []byte) flow {
	t.Helper()
	at := 14 + 20
	if out[12] == 0x86 {
		at = 14 + 40
	}
	port := binary.BigEndian.Uint16(out[at:])
	own := netip.MustParseAddrPort(f.src).Port()
	if port != moved(own) && port < 61000 {
		t.Errorf("a translated packet from port %d leaves from port %d", own, port)
	}
	src := netip.MustParseAddrPort(f.src)
	f.src = netip.AddrPortFrom(src.Addr(), port).String()
	return f
}

// moved is where a translated flow from a port leaves from.
func moved(port uint16) uint16 {
	if port < 1024 {
		return port
	}
	return uint16(1024 + (uint32(port)-1024+32256)%64512)
}

// expectOut is expect for a packet that is translated on its way out: it also
// returns the address and port that its reply is to go to.
func (d *datapath) expectOut(t *testing.T, in []byte, verdict int, want flow, counters string) (replyTo string) {
	t.Helper()
	got, out := d.run(d.FromPod, in)
	want = want.leaves(t, out)
	if got != verdict {
		t.Errorf("verdict is %d, want %d", got, verdict)
	}
	sameBytes(t, "after the program", out, want.bytes(t))
	if have, want := d.counters(), withLength(counters, len(in)); counters != "" && have != want {
		t.Errorf("counters are %q, want %q", have, want)
	}
	return want.src
}

func eachFamily(t *testing.T, test func(t *testing.T, d *datapath, c cast)) {
	for family, c := range casts {
		t.Run(family, func(t *testing.T) {
			d := load(t)
			d.populate(c)
			test(t, d, c)
		})
	}
}

// A pod's connection to a service whose backend is local, from the first packet
// to the end: each output is the next program's input.
func TestServiceLocalBackend(t *testing.T) {
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		t.Run(proto.String(), func(t *testing.T) {
			eachFamily(t, func(t *testing.T, d *datapath, c cast) {
				d.service(c.svc+":80", uint8(proto), 0, c.b+":8080")

				out := from(1, c.a+":40000", c.svc+":80", proto)
				out.syn = true
				want := from(1, c.a+":40000", c.b+":8080", proto).forward(2)
				want.syn = true
				replyTo := d.expectOut(t, out.bytes(t), redirect, want,
					"from_pod/delivered=1:%d from_pod/translated=1:%d")
				d.marks(1, 1)
				d.marks(2, 0)
				d.flows(2)

				// Its next packet goes the same way.
				d.resetCounters()
				if again := d.expectOut(t, out.bytes(t), redirect, want,
					"from_pod/delivered=1:%d from_pod/translated=1:%d"); again != replyTo {
					t.Errorf("the next packet leaves from %s, not %s", again, replyTo)
				}

				reply := from(2, c.b+":8080", replyTo, proto)
				want = from(2, c.svc+":80", c.a+":40000", proto).forward(1)
				d.resetCounters()
				d.expect(d.FromPod, reply.bytes(t), redirect, want.bytes(t),
					"from_pod/delivered=1:%d from_pod/untranslated=1:%d")

				// What B says to the port itself is of a flow that A has with B
				// past the service, and from another port no reply either.
				for _, other := range []flow{
					from(2, c.b+":8080", c.a+":40000", proto),
					from(2, c.b+":8081", replyTo, proto),
				} {
					d.resetCounters()
					d.expect(d.FromPod, other.bytes(t), redirect, other.forward(1).bytes(t), "from_pod/delivered=1:%d")
				}
				d.flows(2)
			})
		})
	}
}

// The backend is elsewhere: the translated packet goes to the stack, and its
// reply comes from there.
func TestServiceRemoteBackend(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", tcp, 0, c.w+":8080")

		out := from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP)
		want := out
		want.dst = c.w + ":8080"
		replyTo := d.expectOut(t, out.bytes(t), next, want, "from_pod/to_stack=1:%d from_pod/translated=1:%d")

		reply := flow{src: c.w + ":8080", dst: replyTo, srcMAC: hostMAC(1), dstMAC: mac(1), ttl: 60, payload: "hello"}
		want = reply
		want.src, want.dst = c.svc+":80", c.a+":40000"
		d.resetCounters()
		d.expect(d.ToPod, reply.bytes(t), next, want.bytes(t), "to_pod/delivered=1:%d to_pod/untranslated=1:%d")

		// To an endpoint without translated flows nothing is looked up.
		plain := flow{src: c.w + ":8080", dst: c.b + ":40000", srcMAC: hostMAC(2), dstMAC: mac(2), ttl: 60}
		d.resetCounters()
		d.expect(d.ToPod, plain.bytes(t), next, plain.bytes(t), "to_pod/delivered=1:%d")
	})
}

// An established TCP flow keeps its backend when the service changes or goes;
// a UDP flow leaves a backend that has gone.
func TestServiceChanges(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", tcp, 0, c.b+":8080")
		d.service(c.svc+":53", udp, 8, c.b+":5353")
		tcpOut := from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP)
		udpOut := from(1, c.a+":40000", c.svc+":53", layers.IPProtocolUDP)
		d.run(d.FromPod, tcpOut.bytes(t))
		d.run(d.FromPod, udpOut.bytes(t))

		d.service(c.svc+":80", tcp, 16, c.w+":8080")
		d.service(c.svc+":53", udp, 24, c.w+":5353")
		if err := d.WagBackends1.Put(uint32(9), PodBackend{}); err != nil {
			t.Fatal(err)
		}
		want := from(1, c.a+":40000", c.b+":8080", layers.IPProtocolTCP).forward(2)
		replyTo := d.expectOut(t, tcpOut.bytes(t), redirect, want, "")
		moved := udpOut
		moved.dst = c.w + ":5353"
		d.expectOut(t, udpOut.bytes(t), next, moved, "")

		if err := d.WagFrontends1.Delete(frontendKey(c.svc, 80, tcp)); err != nil {
			t.Fatal(err)
		}
		if again := d.expectOut(t, tcpOut.bytes(t), redirect, want, ""); again != replyTo {
			t.Errorf("TCP after the service went leaves from %s, not %s", again, replyTo)
		}
	})
}

func TestServiceWithoutBackend(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", tcp, 0)
		out := from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP).bytes(t)
		d.expect(d.FromPod, out, shot, out, "from_pod/drop-135=1:%d")
		d.flows(0)
	})
}

// A pod reaches itself through its service: it sees a reserved address, as its
// kernel refuses its own from outside (cilium #26100 is about the socket path,
// where the pod keeps its own).
func TestServiceHairpin(t *testing.T) {
	reserved := map[bool]string{true: "169.254.1.2", false: "[100::2]"}
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		self := reserved[c.a[0] != '[']
		d.service(c.svc+":80", tcp, 0, c.a+":8080")
		out := from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP)
		want := from(1, self+":40000", c.a+":8080", layers.IPProtocolTCP).forward(1)
		replyTo := d.expectOut(t, out.bytes(t), redirect, want, "from_pod/delivered=1:%d from_pod/translated=1:%d")

		reply := from(1, c.a+":8080", replyTo, layers.IPProtocolTCP)
		want = from(1, c.svc+":80", c.a+":40000", layers.IPProtocolTCP).forward(1)
		d.resetCounters()
		d.expect(d.FromPod, reply.bytes(t), redirect, want.bytes(t), "from_pod/delivered=1:%d from_pod/translated=1:%d")
	})
}

// Two services lead one source port to one backend, and the pod has a flow of
// that port with the backend itself: each is answered as itself (cilium #11810,
// #18632).
func TestServiceSharedBackend(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", udp, 0, c.b+":8080")
		d.service(c.svc+":81", udp, 8, c.b+":8080")
		want := from(1, c.a+":40000", c.b+":8080", layers.IPProtocolUDP).forward(2)
		for _, svc := range []string{c.svc + ":80", c.svc + ":81"} {
			replyTo := d.expectOut(t, from(1, c.a+":40000", svc, layers.IPProtocolUDP).bytes(t), redirect, want, "")
			_, got := d.run(d.FromPod, from(2, c.b+":8080", replyTo, layers.IPProtocolUDP).bytes(t))
			sameBytes(t, "the reply of "+svc, got, from(2, svc, c.a+":40000", layers.IPProtocolUDP).forward(1).bytes(t))
		}
		direct := from(2, c.b+":8080", c.a+":40000", layers.IPProtocolUDP)
		_, got := d.run(d.FromPod, direct.bytes(t))
		sameBytes(t, "what B says to A itself", got, direct.forward(1).bytes(t))
	})
}

// SCTP keeps its port, so there the second one is refused.
func TestServiceClash(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":80", sctp, 0, c.b+":80")
		other := netip.MustParseAddr(strings.Trim(c.svc, "[]")).Next()
		second := netip.AddrPortFrom(other, 80).String()
		d.service(second, sctp, 8, c.b+":80")
		d.run(d.FromPod, from(1, c.a+":40000", c.svc+":80", layers.IPProtocolSCTP).bytes(t))
		d.resetCounters()
		clash := from(1, c.a+":40000", second, layers.IPProtocolSCTP).bytes(t)
		d.expect(d.FromPod, clash, shot, clash, "from_pod/drop-138=1:%d")
	})
}

func TestServiceSCTP(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":2905", sctp, 0, c.b+":2905")
		d.service(c.svc+":80", sctp, 8, c.w+":2905")
		out := from(1, c.a+":40000", c.svc+":2905", layers.IPProtocolSCTP)
		want := from(1, c.a+":40000", c.b+":2905", layers.IPProtocolSCTP).forward(2)
		d.expect(d.FromPod, out.bytes(t), redirect, want.bytes(t), "from_pod/delivered=1:%d from_pod/translated=1:%d")
		mapped := from(1, c.a+":40000", c.svc+":80", layers.IPProtocolSCTP).bytes(t)
		d.resetCounters()
		d.expect(d.FromPod, mapped, shot, mapped, "from_pod/drop-139=1:%d")
		d.flows(2)
	})
}

// UDP without a checksum (RFC 768) stays without.
func TestServiceUDPNoChecksum(t *testing.T) {
	c := casts["IPv4"]
	d := load(t)
	d.populate(c)
	d.service(c.svc+":53", udp, 0, c.w+":5353")
	const checksum = 14 + 20 + 6
	zero := func(f flow) []byte {
		b := f.bytes(t)
		b[checksum], b[checksum+1] = 0, 0
		return b
	}
	_, out := d.run(d.FromPod, zero(from(1, c.a+":40000", c.svc+":53", layers.IPProtocolUDP)))
	want := from(1, c.a+":40000", c.w+":5353", layers.IPProtocolUDP).leaves(t, out)
	sameBytes(t, "after the program", out, zero(want))
}

// Fragments of a datagram follow its first one, both families; one whose first
// was not seen is none of our business and goes to the stack.
func TestServiceFragments(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *datapath, c cast) {
		d.service(c.svc+":53", udp, 0, c.w+":53")
		// The port is the same, so that the checksum in the first fragment,
		// over a payload that is not all there, is easy to expect.
		later := func(dst string) []byte {
			f := fragment(t, c.a, dst, 185, false)
			at := len(f) - len("a payload that needs no padding") - 2
			f[at], f[at+1] = 1, 1 // here it is payload: the same for both
			return f
		}
		in := later(c.svc)
		d.expect(d.FromPod, in, next, in, "from_pod/to_stack=1:%d")

		_, got := d.run(d.FromPod, fragment(t, c.a, c.svc, 0, true))
		sameBytes(t, "the first", portless(got), portless(fragment(t, c.a, c.w, 0, true)))
		_, got = d.run(d.FromPod, in)
		sameBytes(t, "a later one", got, later(c.w))
	})
}

// portless blanks the source port and the checksum of the first fragment.
func portless(p []byte) []byte {
	p = bytes.Clone(p)
	at := 14 + 20
	if p[12] == 0x86 {
		at = 14 + 40 + 8
	}
	clear(p[at : at+2])
	clear(p[at+6 : at+8])
	return p
}

// fragment builds one of a UDP datagram from port 40000 to 53.
func fragment(t *testing.T, src, dst string, offset uint16, more bool) []byte {
	f := from(1, src+":40000", dst+":53", layers.IPProtocolUDP)
	f.payload = "a payload that needs no padding"
	whole := f.bytes(t)
	if whole[12] == 8 {
		eth, ip := whole[:14], whole[14:34]
		ip[6], ip[7] = byte(offset>>8), byte(offset)
		if more {
			ip[6] |= 0x20
		}
		return append(append([]byte{}, eth...), fixIPv4(ip, whole[34:])...)
	}
	ext := []byte{udp, 0, byte(offset << 3 >> 8), byte(offset << 3), 0, 0, 0, 7}
	if more {
		ext[3] |= 1
	}
	out := append(append([]byte{}, whole[:54]...), ext...)
	out[20] = uint8(layers.IPProtocolIPv6Fragment)
	out[19] += 8 // payload length
	return append(out, whole[54:]...)
}

// fixIPv4 computes the header checksum anew.
func fixIPv4(ip, payload []byte) []byte {
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	ip[10], ip[11] = ^byte(sum>>8), ^byte(sum)
	return append(append([]byte{}, ip...), payload...)
}

// Extension headers are followed to a stated depth, and no further.
func TestIPv6ExtensionHeaders(t *testing.T) {
	c := casts["IPv6"]
	d := load(t)
	d.populate(c)
	d.service(c.svc+":80", tcp, 0, c.w+":8080")
	for n, verdict := range map[int]int{1: next, 5: next, 6: next, 7: shot} {
		in := withExtensions(t, from(1, c.a+":40000", c.svc+":80", layers.IPProtocolTCP).bytes(t), n)
		want := in
		counters := "from_pod/drop-132=1:%d"
		d.resetCounters()
		if verdict == next {
			counters = "from_pod/to_stack=1:%d from_pod/translated=1:%d"
			_, out := d.run(d.FromPod, in)
			f := from(1, c.a+":40000", c.w+":8080", layers.IPProtocolTCP)
			f.src = netip.AddrPortFrom(netip.MustParseAddr(strings.Trim(c.a, "[]")), binary.BigEndian.Uint16(out[54+8*n:])).String()
			want = withExtensions(t, f.bytes(t), n)
			d.resetCounters()
		}
		d.expect(d.FromPod, in, verdict, want, counters)
	}
}

// withExtensions puts n destination options headers ahead of TCP.
func withExtensions(t *testing.T, p []byte, n int) []byte {
	t.Helper()
	out := append([]byte{}, p[:54]...)
	out[20] = uint8(layers.IPProtocolIPv6Destination)
	out[19] += byte(8 * n)
	for i := range n {
		nxt := uint8(layers.IPProtocolIPv6Destination)
		if i == n-1 {
			nxt = tcp
		}
		out = append(out, nxt, 0, 1, 4, 0, 0, 0, 0) // one PadN
	}
	return append(out, p[54:]...)
}

// IPv4 options move the transport header.
func TestIPv4Options(t *testing.T) {
	c := casts["IPv4"]
	d := load(t)
	d.populate(c)
	d.service(c.svc+":80", tcp, 0, c.w+":80")
	build := func(dst string, port layers.TCPPort) []byte {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: ipOf(c.a), DstIP: ipOf(dst),
			Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}},
		}
		return frame(t, &layers.Ethernet{SrcMAC: mac(1), DstMAC: hostMAC(1), EthernetType: layers.EthernetTypeIPv4},
			ip, &layers.TCP{SrcPort: port, DstPort: 80, ACK: true}, gopacket.Payload("x"))
	}
	_, out := d.run(d.FromPod, build(c.svc, 40000))
	sameBytes(t, "after the program", out, build(c.w, layers.TCPPort(binary.BigEndian.Uint16(out[14+24:]))))
}

// A full flow table refuses new flows, is counted, and leaves old ones alone.
func TestFlowsFull(t *testing.T) {
	c := casts["IPv4"]
	d := loadSized(t, map[string]uint32{PodMapWagConntrack1: 2})
	d.populate(c)
	d.service(c.svc+":53", udp, 0, c.w+":53")
	first := from(1, c.a+":40000", c.svc+":53", layers.IPProtocolUDP)
	d.run(d.FromPod, first.bytes(t))
	d.resetCounters()
	second := from(1, c.a+":40001", c.svc+":53", layers.IPProtocolUDP).bytes(t)
	d.expect(d.FromPod, second, shot, second, "from_pod/drop-137=1:%d")
	want := first
	want.dst = c.w + ":53"
	d.expectOut(t, first.bytes(t), next, want, "")
}
