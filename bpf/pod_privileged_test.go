// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

// The cast: A and B are local pods on the test device, C is local on another
// device, W is the world. Each has an address of both families.
type cast struct{ a, b, c, w, svc string }

var casts = map[string]cast{
	"IPv4": {"10.244.1.2", "10.244.1.3", "10.244.1.4", "203.0.113.9", "10.96.0.10"},
	"IPv6": {"[fd00:10:244:1::2]", "[fd00:10:244:1::3]", "[fd00:10:244:1::4]", "[2001:db8:ff::9]", "[fd00:10:96::a]"},
}

func (d *datapath) populate(c cast) {
	trim := func(s string) string {
		if s[0] == '[' {
			return s[1 : len(s)-1]
		}
		return s
	}
	d.endpoint(1, loopback, trim(c.a))
	d.endpoint(2, loopback, trim(c.b))
	d.endpoint(3, 4711, trim(c.c))
}

// mutate changes one byte of a valid packet.
func mutate(at int, to byte) func([]byte) []byte {
	return func(p []byte) []byte { p[at] = to; return p }
}

// TestFromPod: a valid packet plus one mutation; verdict, exact bytes and exact
// counters. Where want is nil, the packet leaves as it came.
func TestFromPod(t *testing.T) {
	const header = 14
	type row struct {
		name     string
		in       func(c cast) flow
		mutate   func([]byte) []byte
		only     string // family
		want     func(c cast) flow
		verdict  int
		counters string
	}
	toB := func(c cast) flow {
		return flow{src: c.a + ":40000", dst: c.b + ":80", srcMAC: mac(1), dstMAC: hostMAC(1), ttl: 64, syn: true, payload: "hello"}
	}
	toW := func(c cast) flow { f := toB(c); f.dst = c.w + ":80"; return f }
	rows := []row{
		{name: "to a local pod", in: toB, verdict: redirect, counters: "from_pod/delivered=1:%d",
			want: func(c cast) flow { f := toB(c); f.ttl, f.srcMAC, f.dstMAC = 63, hostMAC(2), mac(2); return f }},
		{name: "to a local pod, UDP", verdict: redirect, counters: "from_pod/delivered=1:%d",
			in: func(c cast) flow { f := toB(c); f.proto = layers.IPProtocolUDP; return f },
			want: func(c cast) flow {
				f := toB(c)
				f.proto = layers.IPProtocolUDP
				f.ttl, f.srcMAC, f.dstMAC = 63, hostMAC(2), mac(2)
				return f
			}},
		{name: "to a local pod, SCTP", verdict: redirect, counters: "from_pod/delivered=1:%d",
			in: func(c cast) flow { f := toB(c); f.proto = layers.IPProtocolSCTP; return f },
			want: func(c cast) flow {
				f := toB(c)
				f.proto = layers.IPProtocolSCTP
				f.ttl, f.srcMAC, f.dstMAC = 63, hostMAC(2), mac(2)
				return f
			}},
		{name: "TTL 2 is the last that is delivered", verdict: redirect, counters: "from_pod/delivered=1:%d",
			in:   func(c cast) flow { f := toB(c); f.ttl = 2; return f },
			want: func(c cast) flow { f := toB(c); f.ttl, f.srcMAC, f.dstMAC = 1, hostMAC(2), mac(2); return f }},
		{name: "TTL 1 is for the stack to answer", verdict: next, counters: "from_pod/to_stack=1:%d",
			in: func(c cast) flow { f := toB(c); f.ttl = 1; return f }},
		{name: "to the world", in: toW, verdict: next, counters: "from_pod/to_stack=1:%d"},
		{name: "source of another device", verdict: shot, counters: "from_pod/drop-133=1:%d",
			in: func(c cast) flow { f := toB(c); f.src = c.c + ":1"; return f }},
		{name: "source of the world", verdict: shot, counters: "from_pod/drop-133=1:%d",
			in: func(c cast) flow { f := toB(c); f.src = c.w + ":1"; return f }},
		{name: "source is a service", verdict: shot, counters: "from_pod/drop-133=1:%d",
			in: func(c cast) flow { f := toB(c); f.src = c.svc + ":1"; return f }},
		{name: "link-local source", only: "IPv6", verdict: shot, counters: "from_pod/drop-134=1:%d",
			in: func(c cast) flow { f := toB(c); f.src = "[fe80::5]:1"; return f }},
		{name: "unspecified source", only: "IPv6", verdict: shot, counters: "from_pod/drop-134=1:%d",
			in: func(c cast) flow { f := toB(c); f.src = "[::]:1"; return f }},
		{name: "unspecified source", only: "IPv4", verdict: shot, counters: "from_pod/drop-133=1:%d",
			in: func(c cast) flow { f := toB(c); f.src = "0.0.0.0:1"; return f }},
		{name: "ARP", in: toB, mutate: func(p []byte) []byte { p[12], p[13] = 8, 6; return p }, verdict: shot, counters: "from_pod/drop-131=1:%d"},
		{name: "wrong version", in: toB, mutate: mutate(header, 0x25), verdict: shot, counters: "from_pod/drop-130=1:%d"},
		{name: "header length below the least", only: "IPv4", in: toB, mutate: mutate(header, 0x44), verdict: shot, counters: "from_pod/drop-130=1:%d"},
		{name: "no ports, to the world", in: toW, mutate: func(p []byte) []byte {
			if p[12] == 8 {
				return p[:header+20]
			}
			return p[:header+40]
		}, verdict: shot, counters: "from_pod/drop-130=1:%d"},
	}
	for family, c := range casts {
		for _, r := range rows {
			if r.only != "" && r.only != family {
				continue
			}
			t.Run(family+"/"+r.name, func(t *testing.T) {
				d := load(t)
				d.populate(c)
				in := r.in(c).bytes(t)
				if r.mutate != nil {
					in = r.mutate(in)
				}
				d.expect(d.FromPod, in, r.verdict, wantBytes(t, in, r.want, c), r.counters)
			})
		}
	}
}

func wantBytes(t *testing.T, in []byte, want func(cast) flow, c cast) []byte {
	if want == nil {
		return in
	}
	return want(c).bytes(t)
}

// expect runs one packet and compares everything that may be seen of it.
// In counters, %d stands for the packet's length.
func (d *datapath) expect(p *ebpf.Program, in []byte, verdict int, want []byte, counters string) {
	d.t.Helper()
	got, out := d.run(p, in)
	if got != verdict {
		d.t.Errorf("verdict is %d, want %d", got, verdict)
	}
	sameBytes(d.t, "after the program", out, want)
	if have, want := d.counters(), withLength(counters, len(in)); have != want {
		d.t.Errorf("counters are %q, want %q", have, want)
	}
}
