// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket/layers"
)

// repeat is how many packets the kernel sends through a program in one test run.
const repeat = 1_000_000

// BenchmarkPrograms is the cost of each walk alone, without devices and sockets:
// what a redirect costs afterwards is not in it.
func BenchmarkPrograms(b *testing.B) {
	for _, family := range []string{"IPv4", "IPv6"} {
		c := casts[family]
		for _, w := range walks(c) {
			b.Run(family+"/"+w.name, func(b *testing.B) {
				d := load(b)
				d.populate(c)
				prog := d.FromPod
				if w.toPod {
					prog = d.ToPod
				}
				if w.first != nil {
					d.service(c.svc+":80", tcp, 0, w.backend)
					_, out := d.run(d.FromPod, w.first.bytes(b))
					if w.reply { // to the port that the flow was given
						w.packet.dst = w.first.leaves(b, out).src
					}
				}
				d.measure(b, prog, w.packet.bytes(b), w.verdict)
			})
		}
	}
}

// walk is a way through a program.
type walk struct {
	name    string
	toPod   bool
	backend string // of the service, if first is set
	first   *flow  // starts a translated flow
	reply   bool   // packet answers it
	packet  flow
	verdict int
}

func walks(c cast) []walk {
	const proto = layers.IPProtocolTCP
	toB := from(1, c.a+":40000", c.b+":80", proto)
	toW := from(1, c.a+":40000", c.w+":80", proto)
	toService := from(1, c.a+":40000", c.svc+":80", proto)
	fromBackend := from(2, c.b+":8080", c.a+":40000", proto)
	fromWorld := flow{src: c.w + ":8080", dst: c.a + ":40000", srcMAC: hostMAC(1), dstMAC: mac(1), ttl: 60, payload: "hello"}
	syn := toService
	syn.syn = true
	local, remote := c.b+":8080", c.w+":8080"
	return []walk{
		{name: "from_pod/to_pod", packet: toB, verdict: redirect},
		{name: "from_pod/to_world", packet: toW, verdict: next},
		{name: "from_pod/to_service_established", backend: local, first: &syn, packet: toService, verdict: redirect},
		{name: "from_pod/reply_of_service", backend: local, first: &syn, reply: true, packet: fromBackend, verdict: redirect},
		{name: "from_pod/to_remote_backend_established", backend: remote, first: &syn, packet: toService, verdict: next},
		{name: "to_pod/plain", toPod: true, packet: fromWorld, verdict: next},
		{name: "to_pod/reply_of_service", toPod: true, backend: remote, first: &syn, reply: true, packet: fromWorld, verdict: next},
	}
}

// measure reports nanoseconds a packet. The programs change the packet that a
// test run sends again and again (after 63 hops there would be none left), so a
// small program writes it anew and then calls the one to be measured; what that
// costs with an empty program in its place is subtracted.
func (d *datapath) measure(b *testing.B, p *ebpf.Program, packet []byte, verdict int) {
	with, without := rewriter(b, p, packet), rewriter(b, empty(b), packet)
	var costs, harness []float64
	for b.Loop() {
		empty := testRun(b, without, packet, next)
		harness = append(harness, empty)
		costs = append(costs, testRun(b, with, packet, verdict)-empty)
	}
	slices.Sort(costs)
	slices.Sort(harness)
	b.ReportMetric(costs[len(costs)/2], "ns/op")
	b.ReportMetric(costs[0], "min-ns")
	b.ReportMetric(costs[len(costs)-1], "max-ns")
	b.ReportMetric(harness[len(harness)/2], "harness-ns")
}

// testRun returns nanoseconds a packet.
func testRun(b *testing.B, p *ebpf.Program, packet []byte, verdict int) float64 {
	b.Helper()
	// One packet first: of the many, only the last one's verdict comes back.
	if ret, err := p.Run(&ebpf.RunOptions{Data: packet, Context: skb{Ifindex: loopback}}); err != nil || int(int32(ret)) != verdict {
		b.Fatalf("verdict is %d (%v), want %d", int32(ret), err, verdict)
	}
	ret, took, err := p.Benchmark(packet, repeat, nil)
	if err != nil || int(int32(ret)) != verdict {
		b.Fatalf("run %s: verdict is %d (%v), want %d", p, int32(ret), err, verdict)
	}
	return float64(took.Nanoseconds())
}

// rewriter is a program that writes the packet's headers and calls another.
func rewriter(b *testing.B, to *ebpf.Program, packet []byte) *ebpf.Program {
	b.Helper()
	calls, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { calls.Close() })
	if err := calls.Put(uint32(0), to); err != nil {
		b.Fatal(err)
	}
	// On the stack in whole words; what is beyond the transport header stays.
	words := bytes.Clone(packet[:min(len(packet), 80)/8*8])
	size := int16(len(words))
	prog := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	for at := int16(0); at < size; at += 8 {
		word := int64(native(words[at:]))
		prog = append(prog,
			asm.LoadImm(asm.R2, word, asm.DWord),
			asm.StoreMem(asm.RFP, at-size, asm.R2, asm.DWord))
	}
	prog = append(prog,
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -int32(size)),
		asm.Mov.Imm(asm.R4, int32(size)),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, calls.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, shot),
		asm.Return())
	return program(b, "rewriter", prog)
}

func native(b []byte) (word uint64) {
	for i, v := range b[:8] {
		word |= uint64(v) << (8 * i)
	}
	return word
}

// empty passes every packet on.
func empty(b *testing.B) *ebpf.Program {
	return program(b, "empty", asm.Instructions{asm.Mov.Imm(asm.R0, next), asm.Return()})
}

func program(b *testing.B, name string, ins asm.Instructions) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: ins})
	if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		b.Fatalf("%+v", ve)
	}
	if err != nil {
		b.Fatal(fmt.Errorf("load %s: %w", name, err))
	}
	b.Cleanup(func() { p.Close() })
	return p
}
