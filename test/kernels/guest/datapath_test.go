// SPDX-License-Identifier: Apache-2.0

//go:build guest

package guest

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/loader"
	"github.com/waggle-net/waggle/datapath/route"
	"github.com/waggle-net/waggle/datapath/service"
)

const (
	bpfRoot    = "/sys/fs/bpf"
	cgroupRoot = "/sys/fs/cgroup"
)

// node is the datapath of this machine, in the root network namespace.
type node struct {
	loader    *loader.Loader
	routes    *route.Manager
	endpoints *endpoint.Manager
	services  *service.Manager
}

func newNode(t *testing.T, mode loader.Mode) *node {
	t.Helper()
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), &said), nil))
	n := &node{routes: route.New(route.Config{
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
		Masquerade:   true,
		MTU:          1500,
	}, log)}
	var err error
	n.loader, err = loader.Open(loader.Config{BPFRoot: bpfRoot, CgroupRoot: cgroupRoot, Mode: mode}, log)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		n.loader.Close()
		if err := loader.Cleanup(bpfRoot); err != nil {
			t.Error(err)
		}
	})
	if err := n.routes.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What was written must read back as it was meant on this kernel too: else
	// each upkeep would write it again, and the counters start anew.
	said.Reset()
	if err := n.routes.Sync(t.Context()); err != nil || said.Len() > 0 {
		t.Fatalf("the second Sync: %v, %s", err, said.String())
	}
	addNodeAddresses(t)
	n.endpoints = endpoint.New(n.loader, n.routes, n.loader.Maps(), log)
	if n.services, err = service.NewManager(n.loader.Maps(), log); err != nil {
		t.Fatal(err)
	}
	return n
}

// addNodeAddresses gives this machine what it talks to pods with.
func addNodeAddresses(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"198.18.0.11/32", "2001:db8::b/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrReplace(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
}

type pod struct {
	spec endpoint.Spec
	ns   netns.NsHandle
}

func (n *node) addPod(t *testing.T, id byte) *pod {
	t.Helper()
	p := &pod{ns: newNetNS(t), spec: endpoint.Spec{
		ID: uint32(id), ContainerID: fmt.Sprintf("pod%d", id), IfName: "eth0", HostIfName: fmt.Sprintf("wagtest%d", id),
		Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 244, 1, id}),
			netip.MustParseAddr(fmt.Sprintf("fd00:10:244:1::%x", id)),
		},
		PodMAC: endpoint.MAC{2, 0, 0, 0, 0, id}, HostMAC: endpoint.MAC{2, 0, 0, 0, 1, id}, MTU: 1500,
	}}
	// A copy: an os.File closes its descriptor when it is collected.
	fd, err := unix.Dup(int(p.ns))
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "netns")
	defer f.Close()
	if err := n.endpoints.Add(t.Context(), &p.spec, f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.endpoints.Delete(t.Context(), &p.spec); err != nil {
			t.Error(err)
		}
	})
	if err := n.endpoints.Check(t.Context(), &p.spec, f); err != nil {
		t.Error(err)
	}
	return p
}

// echo answers datagrams and connections on the pod's addresses.
func (p *pod) echo(t *testing.T, port uint16) {
	t.Helper()
	for _, a := range p.spec.Addresses {
		c := listenUDP(t, p.ns, netip.AddrPortFrom(a, port).String())
		go func() {
			buf := make([]byte, 64)
			for {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				c.WriteToUDPAddrPort(buf[:n], from)
			}
		}()
		var l net.Listener
		inNetNS(t, p.ns, func() (err error) {
			l, err = net.Listen("tcp", netip.AddrPortFrom(a, port).String())
			return err
		})
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 64)
				n, _ := c.Read(buf)
				c.Write(buf[:n])
				c.Close()
			}
		}()
	}
}

// ask sends to an address from inside a namespace and wants the same back.
func ask(t *testing.T, ns netns.NsHandle, network string, to netip.AddrPort) {
	t.Helper()
	inNetNS(t, ns, func() error {
		c, err := net.DialTimeout(network, to.String(), upTimeout)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(upTimeout))
		if _, err := c.Write([]byte("question")); err != nil {
			return err
		}
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != "question" {
			return fmt.Errorf("%s from %s: got %q: %w", network, to, buf[:n], err)
		}
		return nil
	})
}

func askBoth(t *testing.T, ns netns.NsHandle, addrs []netip.Addr, port uint16) {
	t.Helper()
	for _, a := range addrs {
		ask(t, ns, "udp", netip.AddrPortFrom(a, port))
		ask(t, ns, "tcp", netip.AddrPortFrom(a, port))
	}
}

// TestFeatures: nothing that is needed is missing on a kernel that we support.
func TestFeatures(t *testing.T) {
	for _, f := range loader.Probe() {
		t.Logf("%-24s %v", f.Name, f.Available)
		if f.Needed && !f.Available {
			t.Errorf("%s is missing: %s", f.Name, f.Detail)
		}
	}
}

// TestDatapath: pods of one node talk to each other, to the node and to
// services: per packet, and by the socket once its programs are attached.
func TestDatapath(t *testing.T) {
	modes := []loader.Mode{loader.TC}
	if n, err := loader.Open(loader.Config{BPFRoot: bpfRoot, CgroupRoot: cgroupRoot, Mode: loader.TCX}, slog.Default()); err == nil {
		n.Close()
		modes = append(modes, loader.TCX)
	} else if os.Getenv(tcxEnv) != "" {
		t.Fatalf("this kernel has tcx, but: %v", err)
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) { testDatapath(t, mode) })
	}
}

// tcxEnv is set by the host for kernels that must have tcx.
const tcxEnv = "WAGGLE_KERNEL_TCX"

func testDatapath(t *testing.T, mode loader.Mode) {
	n := newNode(t, mode)
	a, b := n.addPod(t, 2), n.addPod(t, 3)
	b.echo(t, 8080)
	askBoth(t, a.ns, b.spec.Addresses, 8080)

	root, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	askBoth(t, root, b.spec.Addresses, 8080)

	vips := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")}
	if err := n.services.Apply(map[intent.Name]*intent.Service{{Name: "s"}: echoService(vips, b, 8080)}); err != nil {
		t.Fatal(err)
	}
	askBoth(t, a.ns, vips, 80) // no socket program is attached: per packet
	if marks, err := n.loader.Maps().Marks.Get(a.spec.ID); err != nil || marks == 0 {
		t.Errorf("marks of the client are %d, %v: its packets were not translated", marks, err)
	}
	if err := n.loader.AttachSockets(); err != nil {
		t.Fatal(err)
	}
	askBoth(t, a.ns, vips, 80)
	askBoth(t, root, vips, 80)

	for _, p := range n.loader.Programs() {
		t.Logf("instructions %s %s %d", mode, p.Name, p.Verified)
		if limit := instructionLimits[p.Name]; p.Verified > limit {
			t.Errorf("the verifier walks %d instructions of %s, more than the %d that are allowed: make it smaller, or say in the commit why not",
				p.Verified, p.Name, limit)
		}
	}
}

// instructionLimits keep programs far from the million that the verifier walks
// at most. What each kernel counts differs by a few percent.
var instructionLimits = map[string]uint32{
	"from_pod": 25_000, "to_pod": 8_000, "from_network": 25_000,
	"connect4": 1_000, "connect6": 1_000, "sendmsg4": 5_000, "sendmsg6": 5_000,
	"recvmsg4": 2_000, "recvmsg6": 2_000, "getpeername4": 500, "getpeername6": 500,
}

func echoService(vips []netip.Addr, p *pod, port uint16) *intent.Service {
	s := &intent.Service{Name: intent.Name{Name: "s"}, ClusterIPs: vips}
	for _, proto := range []intent.Protocol{intent.TCP, intent.UDP} {
		sp := intent.ServicePort{Protocol: proto, Port: 80}
		for _, a := range p.spec.Addresses {
			sp.Backends = append(sp.Backends, intent.Backend{Address: a, Port: port, Ready: true})
		}
		s.Ports = append(s.Ports, sp)
	}
	return s
}
