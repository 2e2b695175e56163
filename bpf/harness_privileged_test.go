// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/waggle-net/waggle/test/sandbox"
)

// What a program returns; see linux/pkt_cls.h.
const (
	next     = -1
	shot     = 2
	redirect = 7
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// datapath is the pod and uplink programs on maps of their own: nothing is pinned,
// nothing attached.
type datapath struct {
	t testing.TB
	PodObjects
	uplink UplinkObjects
}

func load(t testing.TB) *datapath {
	t.Helper()
	return loadSized(t, nil)
}

// loadSized is load with other numbers of entries for some maps.
func loadSized(t testing.TB, sizes map[string]uint32) *datapath {
	t.Helper()
	d := &datapath{t: t}
	t.Cleanup(func() { d.Close(); d.uplink.Close() })
	loadInto(t, LoadPod, sizes, nil, &d.PodObjects)
	loadInto(t, LoadUplink, sizes, map[string]*ebpf.Map{
		PodMapWagEndpoints1: d.WagEndpoints1, PodMapWagEpMarks1: d.WagEpMarks1, PodMapWagFrontends1: d.WagFrontends1,
		PodMapWagSlots1: d.WagSlots1, PodMapWagBackends1: d.WagBackends1, PodMapWagConntrack1: d.WagConntrack1,
		PodMapWagFragments1: d.WagFragments1, PodMapWagCounters1: d.WagCounters1,
	}, &d.uplink)
	return d
}

// loadInto loads one object, on maps of another where it is given those.
func loadInto(t testing.TB, load func() (*ebpf.CollectionSpec, error), sizes map[string]uint32, shared map[string]*ebpf.Map, into any) {
	t.Helper()
	spec, err := load()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if n, ok := sizes[name]; ok {
			m.MaxEntries = n
		}
	}
	if err := spec.LoadAndAssign(into, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
}

// skb is the part of struct __sk_buff that a test run takes in.
type skb struct {
	_              [2]uint32
	Mark           uint32
	_              [6]uint32
	IngressIfindex uint32
	Ifindex        uint32
	_              [37]uint32
}

// run sends a packet through a program and returns what became of both.
func (d *datapath) run(p *ebpf.Program, packet []byte) (verdict int, out []byte) {
	d.t.Helper()
	return d.runFrom(p, packet, 0)
}

// runFrom is run for a packet that was forwarded from a device; 0: it was not.
func (d *datapath) runFrom(p *ebpf.Program, packet []byte, ingress uint32) (verdict int, out []byte) {
	d.t.Helper()
	opts := ebpf.RunOptions{
		Data: packet, DataOut: make([]byte, len(packet)+256), Repeat: 1,
		Context: skb{Ifindex: loopback, IngressIfindex: ingress},
	}
	ret, err := p.Run(&opts)
	if err != nil {
		d.t.Fatalf("run %s: %v", p, err)
	}
	return int(int32(ret)), opts.DataOut
}

// The device of every test endpoint: test runs want one that exists.
const loopback = 1

func addr(s string) PodAddr {
	b := netip.MustParseAddr(s).As16()
	var a PodAddr
	for i := range a.W {
		a.W[i] = uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24
	}
	return a
}

func be16(p uint16) uint16 { return p<<8 | p>>8 }

var (
	mac     = func(n byte) []byte { return []byte{2, 0, 0, 0, 0, n} }
	hostMAC = func(n byte) []byte { return []byte{2, 0, 0, 0, 1, n} }
)

// endpoint adds a local pod with the given number and addresses.
func (d *datapath) endpoint(id uint32, ifindex uint32, addrs ...string) {
	d.t.Helper()
	ep := PodEndpoint{Ifindex: ifindex, Id: id, Mtu: 1500}
	copy(ep.PodMac[:], mac(byte(id)))
	copy(ep.HostMac[:], hostMAC(byte(id)))
	for _, a := range addrs {
		if err := d.WagEndpoints1.Put(addr(a), ep); err != nil {
			d.t.Fatal(err)
		}
	}
}

// service adds a frontend whose region of slots starts at the given one; the
// backends' numbers are those of their slots, plus one.
func (d *datapath) service(frontend string, proto uint8, slot uint32, backends ...string) {
	d.t.Helper()
	var errs []error
	for i, b := range backends {
		n := slot + uint32(i)
		ap := netip.MustParseAddrPort(b)
		errs = append(errs,
			d.WagSlots1.Put(n, n+1),
			d.WagBackends1.Put(n+1, PodBackend{
				Addr: addr(ap.Addr().String()), Port: be16(ap.Port()), L4Proto: proto,
				Flags: uint8(PodBackendFlagBACKEND_READY),
			}))
	}
	ap := netip.MustParseAddrPort(frontend)
	key := PodFrontendKey{Addr: addr(ap.Addr().String()), Port: be16(ap.Port()), L4Proto: proto}
	errs = append(errs, d.WagFrontends1.Put(key, PodFrontend{Offset: slot, Count: uint32(len(backends)), Generation: 1, Check: check(key)}))
	if err := errors.Join(errs...); err != nil {
		d.t.Fatal(err)
	}
}

func check(k PodFrontendKey) uint32 {
	return k.Addr.W[0] ^ k.Addr.W[1] ^ k.Addr.W[2] ^ k.Addr.W[3] ^ (uint32(k.Port)<<16 | uint32(k.L4Proto))
}

// counters returns every counter that is not zero, as hook/name=packets.
func (d *datapath) counters() string {
	d.t.Helper()
	hooks := []string{"from_pod", "to_pod", "socket", "from_network"}
	events := []string{"delivered", "to_stack", "translated", "untranslated", "refused", "no_storage", "sent"}
	var out []string
	for i := range d.WagCounters1.MaxEntries() {
		var perCPU []PodCounter
		if err := d.WagCounters1.Lookup(&i, &perCPU); err != nil {
			d.t.Fatal(err)
		}
		var packets, size uint64
		for _, c := range perCPU {
			packets, size = packets+c.Packets, size+c.Bytes
		}
		if packets == 0 {
			continue
		}
		name := fmt.Sprintf("drop%d", -130-(int(i%64)-32))
		if i%64 < 32 {
			name = events[i%64]
		}
		out = append(out, fmt.Sprintf("%s/%s=%d:%d", hooks[i/64], name, packets, size))
	}
	return strings.Join(out, " ")
}

// frame builds an Ethernet frame with right lengths and checksums.
func frame(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if s, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := s.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// flow is a packet in a few words, and everything that a program may change.
type flow struct {
	src, dst       string // address:port; the family decides the rest
	srcMAC, dstMAC []byte
	ttl            uint8
	proto          layers.IPProtocol // default TCP
	syn, fin, rst  bool
	payload        string
}

func (f flow) bytes(t testing.TB) []byte {
	t.Helper()
	src, dst := netip.MustParseAddrPort(f.src), netip.MustParseAddrPort(f.dst)
	eth := &layers.Ethernet{SrcMAC: f.srcMAC, DstMAC: f.dstMAC, EthernetType: layers.EthernetTypeIPv4}
	if f.proto == 0 {
		f.proto = layers.IPProtocolTCP
	}
	var ip gopacket.SerializableLayer
	if src.Addr().Is4() {
		ip = &layers.IPv4{Version: 4, TTL: f.ttl, Protocol: f.proto, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(), Id: 7}
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: f.ttl, NextHeader: f.proto, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	}
	var l4 gopacket.SerializableLayer
	switch f.proto {
	case layers.IPProtocolTCP:
		l4 = &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), SYN: f.syn, FIN: f.fin, RST: f.rst, ACK: !f.syn, Window: 1000, Seq: 1}
	case layers.IPProtocolUDP:
		l4 = &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	case layers.IPProtocolSCTP:
		l4 = &layers.SCTP{SrcPort: layers.SCTPPort(src.Port()), DstPort: layers.SCTPPort(dst.Port()), VerificationTag: 1}
	}
	return frame(t, eth, ip, l4, gopacket.Payload(f.payload))
}

// sameBytes fails with a dump where two packets differ.
func sameBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: packet is\n%s\nwant\n%s", what, hex.Dump(got), hex.Dump(want))
	}
}

func withLength(counters string, n int) string {
	return strings.ReplaceAll(counters, "%d", fmt.Sprint(n))
}

func (d *datapath) resetCounters() {
	d.t.Helper()
	zero := make([]PodCounter, ebpf.MustPossibleCPU())
	for i := range d.WagCounters1.MaxEntries() {
		if err := d.WagCounters1.Put(i, zero); err != nil {
			d.t.Fatal(err)
		}
	}
}

// marks fails where an endpoint's marks are others.
func (d *datapath) marks(id, want uint32) {
	d.t.Helper()
	var got uint32
	if err := d.WagEpMarks1.Lookup(&id, &got); err != nil || got != want {
		d.t.Errorf("marks of endpoint %d are %#x (%v), want %#x", id, got, err, want)
	}
}

// flows fails where the flow table has another number of entries.
func (d *datapath) flows(want int) {
	d.t.Helper()
	var k PodCtKey
	var v PodCtEntry
	n := 0
	it := d.WagConntrack1.Iterate()
	for it.Next(&k, &v) {
		n++
	}
	if err := it.Err(); err != nil || n != want {
		d.t.Errorf("flow table has %d entries (%v), want %d", n, err, want)
	}
}

func frontendKey(ip string, port uint16, proto uint8) PodFrontendKey {
	a, _ := netip.AddrFromSlice(ipOf(ip))
	return PodFrontendKey{Addr: addr(a.String()), Port: be16(port), L4Proto: proto}
}

// ipOf reads an address that may be in brackets.
func ipOf(s string) net.IP { return netip.MustParseAddr(strings.Trim(s, "[]")).AsSlice() }
