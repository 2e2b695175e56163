// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/sandbox"
)

// The kernel has no BPF_PROG_TEST_RUN for cgroup socket programs, so these
// tests make real calls: this process is in a cgroup that carries the programs,
// and in a network namespace with nothing but a loopback device.

// sockets is a datapath whose socket programs see this test's calls.
type sockets struct {
	datapath
	SocketObjects
}

func loadSockets(t *testing.T) *sockets {
	t.Helper()
	s := &sockets{datapath: *load(t)}
	spec, err := LoadSocket()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	err = spec.LoadAndAssign(&s.SocketObjects, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		SocketMapWagFrontends1: s.datapath.WagFrontends1,
		SocketMapWagSlots1:     s.datapath.WagSlots1,
		SocketMapWagBackends1:  s.datapath.WagBackends1,
		SocketMapWagCounters1:  s.datapath.WagCounters1,
	}})
	if err != nil {
		if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { s.SocketObjects.Close() })

	for at, p := range map[ebpf.AttachType]*ebpf.Program{
		ebpf.AttachCGroupInet4Connect:     s.Connect4,
		ebpf.AttachCGroupInet6Connect:     s.Connect6,
		ebpf.AttachCGroupUDP4Sendmsg:      s.Sendmsg4,
		ebpf.AttachCGroupUDP6Sendmsg:      s.Sendmsg6,
		ebpf.AttachCGroupUDP4Recvmsg:      s.Recvmsg4,
		ebpf.AttachCGroupUDP6Recvmsg:      s.Recvmsg6,
		ebpf.AttachCgroupInet4GetPeername: s.Getpeername4,
		ebpf.AttachCgroupInet6GetPeername: s.Getpeername6,
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: sandbox.Cgroup(), Attach: at, Program: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	addAddresses(t)
	return s
}

// addAddresses gives the loopback device the addresses of the cast.
func addAddresses(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range casts {
		for _, a := range []string{c.a, c.b, c.c} {
			ip := ipOf(a)
			bits := 32
			if ip.To4() == nil {
				bits = 128
			}
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD}
			if err := netlink.AddrReplace(lo, addr); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// listen accepts connections and says the listener's address on each.
func listen(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, at)
			c.Close()
		}
	}()
}

// echo answers each datagram with the address it was sent to.
func echo(t *testing.T, at string) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if _, err := c.WriteToUDPAddrPort([]byte(at), from); err != nil {
				return
			}
		}
	}()
}

// dial connects and returns the peer as the kernel tells it, and as it says.
func dial(t *testing.T, network, to string) (peer, says string) {
	t.Helper()
	c, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if network[:3] == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return peername(t, c.(syscall.Conn)), string(buf[:n])
}

func peername(t *testing.T, c syscall.Conn) (peer string) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		sa, err := syscall.Getpeername(int(fd))
		if err != nil {
			t.Error(err)
		}
		switch sa := sa.(type) {
		case *syscall.SockaddrInet4:
			peer = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
		case *syscall.SockaddrInet6:
			peer = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return peer
}

func TestSocketConnect(t *testing.T) {
	s := loadSockets(t)
	for family, c := range casts {
		slot := map[string]uint32{"IPv4": 0, "IPv6": 100}[family]
		s.service(c.svc+":80", tcp, slot, c.b+":8080")
		s.service(c.svc+":53", udp, slot+8, c.b+":5353")
		listen(t, c.b+":8080")
		echo(t, c.b+":5353")
		for _, r := range []struct{ network, service, backend string }{
			{"tcp", c.svc + ":80", c.b + ":8080"},
			{"udp", c.svc + ":53", c.b + ":5353"},
			{"tcp", c.b + ":8080", c.b + ":8080"}, // no service: as it is
			{"udp", c.b + ":5353", c.b + ":5353"},
		} {
			t.Run(family+"/"+r.network+"/"+r.service, func(t *testing.T) {
				peer, says := dial(t, r.network, r.service)
				if peer != r.service || says != r.backend {
					t.Errorf("peer is %s and says %s, want %s and %s", peer, says, r.service, r.backend)
				}
			})
		}
	}
}

// A v6 socket that speaks IPv4 uses v4-mapped addresses.
func TestSocketV4Mapped(t *testing.T) {
	s := loadSockets(t)
	c := casts["IPv4"]
	s.service(c.svc+":80", tcp, 0, c.b+":8080")
	s.service(c.svc+":53", udp, 8, c.b+":5353")
	listen(t, c.b+":8080")
	echo(t, c.b+":5353")

	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	to := &syscall.SockaddrInet6{Port: 80, Addr: netip.MustParseAddr("::ffff:" + c.svc).As16()}
	if err := syscall.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getpeername(fd)
	if err != nil {
		t.Fatal(err)
	}
	if got := sa.(*syscall.SockaddrInet6); got.Addr != to.Addr || got.Port != to.Port {
		t.Errorf("peer is %v, want %v", got, to)
	}

	// Unconnected, on a socket that is bound to both families.
	u := unconnected(t, "[::]:0")
	if from, says := u.ask(c.svc + ":53"); from != c.svc+":53" || says != c.b+":5353" {
		t.Errorf("reply from %s says %s", from, says)
	}
}

type asker struct {
	t *testing.T
	c *net.UDPConn
}

func unconnected(t *testing.T, at string) *asker {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &asker{t, c}
}

func (a *asker) send(to string) {
	a.t.Helper()
	if _, err := a.c.WriteToUDPAddrPort([]byte("?"), netip.MustParseAddrPort(to)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *asker) receive() (from, says string) {
	a.t.Helper()
	buf := make([]byte, 100)
	n, addr, err := a.c.ReadFromUDPAddrPort(buf)
	if err != nil {
		a.t.Fatal(err)
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String(), string(buf[:n])
}

func (a *asker) ask(to string) (from, says string) {
	a.t.Helper()
	a.send(to)
	return a.receive()
}

// One unconnected socket talks to more services than its storage holds: every
// reply carries the service that was asked.
func TestSocketManyServices(t *testing.T) {
	const services = 20
	for family, c := range casts {
		t.Run(family, func(t *testing.T) {
			s := loadSockets(t)
			u := unconnected(t, c.a+":0")
			for i := range services {
				service, backend := fmt.Sprintf("%s:%d", c.svc, 100+i), fmt.Sprintf("%s:%d", c.b, 5300+i)
				s.service(service, udp, uint32(2*i), backend)
				echo(t, backend)
				u.send(service)
			}
			got := make(map[string]string)
			for range services {
				from, says := u.receive()
				got[says] = from
			}
			for i := range services {
				service, backend := fmt.Sprintf("%s:%d", c.svc, 100+i), fmt.Sprintf("%s:%d", c.b, 5300+i)
				if got[backend] != service {
					t.Errorf("the reply of %s came from %s, want %s", backend, got[backend], service)
				}
			}
		})
	}
}

// Datagrams of one unconnected socket go to one backend; other sockets spread.
func TestSocketSpread(t *testing.T) {
	s := loadSockets(t)
	c := casts["IPv4"]
	backends := []string{c.a + ":5353", c.b + ":5353", c.c + ":5353"}
	s.service(c.svc+":53", udp, 0, backends...)
	s.service(c.svc+":80", tcp, 8, c.a+":8080", c.b+":8080", c.c+":8080")
	for _, b := range backends {
		echo(t, b)
		listen(t, strings.Replace(b, "5353", "8080", 1))
	}
	chosen := make(map[string]int)
	for range 200 {
		u := unconnected(t, c.a+":0")
		_, first := u.ask(c.svc + ":53")
		for range 3 {
			if _, says := u.ask(c.svc + ":53"); says != first {
				t.Fatalf("one socket was answered by %s and %s", first, says)
			}
		}
		chosen[first]++
		_, says := dial(t, "tcp", c.svc+":80")
		chosen[says]++
	}
	// 200 of 3: fewer than 30 for one has a probability below 10^-9.
	for _, b := range backends {
		if tcpAt := strings.Replace(b, "5353", "8080", 1); chosen[b] < 30 || chosen[tcpAt] < 30 {
			t.Errorf("%s was chosen %d times, %s %d times, of 200", b, chosen[b], tcpAt, chosen[tcpAt])
		}
	}
}

// A service without a ready backend refuses at once, on every kind of call.
func TestSocketRefused(t *testing.T) {
	s := loadSockets(t)
	for family, c := range casts {
		s.service(c.svc+":80", tcp, 0)
		s.service(c.svc+":53", udp, 0)
		for _, network := range []string{"tcp", "udp"} {
			port := map[string]string{"tcp": ":80", "udp": ":53"}[network]
			if _, err := net.Dial(network, c.svc+port); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: connect by %s: %v", family, network, err)
			}
		}
		u := unconnected(t, c.a+":0")
		_, err := u.c.WriteToUDPAddrPort([]byte("?"), netip.MustParseAddrPort(c.svc+":53"))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: send: %v", family, err)
		}
	}
	if got := s.counters(); got != "socket/refused=6:0" {
		t.Errorf("counters are %q", got)
	}
}

// Two services with one backend, through one socket: a reply carries the
// service that was asked last, the one that the application waits for.
func TestSocketSharedBackend(t *testing.T) {
	s := loadSockets(t)
	for family, c := range casts {
		s.service(c.svc+":53", udp, 0, c.b+":5353")
		s.service(c.svc+":54", udp, 8, c.b+":5353")
		echo(t, c.b+":5353")
		u := unconnected(t, c.a+":0")
		for _, svc := range []string{c.svc + ":53", c.svc + ":54", c.svc + ":53"} {
			if from, _ := u.ask(svc); from != svc {
				t.Errorf("%s: the reply of %s came from %s", family, svc, from)
			}
		}
		// Past the service, the backend is itself to a socket of its own.
		if from, _ := unconnected(t, c.a+":0").ask(c.b + ":5353"); from != c.b+":5353" {
			t.Errorf("%s: the backend's own reply came from %s", family, from)
		}
	}
}

// A UDP socket that is connected again, past any service, has forgotten it.
func TestSocketReconnect(t *testing.T) {
	s := loadSockets(t)
	c := casts["IPv4"]
	s.service(c.svc+":53", udp, 0, c.b+":5353")
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for _, to := range []string{c.svc + ":53", c.b + ":5353", c.svc + ":53"} {
		ap := netip.MustParseAddrPort(to)
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		sa, err := syscall.Getpeername(fd)
		if err != nil {
			t.Fatal(err)
		}
		got := sa.(*syscall.SockaddrInet4)
		if got.Addr != ap.Addr().As4() || got.Port != int(ap.Port()) {
			t.Errorf("connected to %s, the peer is %v:%d", to, got.Addr, got.Port)
		}
	}
}

// A connected UDP socket that names the service once more stays with its
// backend, whose answers are the only ones that it gets.
func TestSocketConnectedSendto(t *testing.T) {
	s := loadSockets(t)
	c := casts["IPv4"]
	s.service(c.svc+":53", udp, 0, c.a+":5353", c.b+":5353", c.c+":5353")
	for _, b := range []string{c.a, c.b, c.c} {
		echo(t, b+":5353")
	}
	to := &syscall.SockaddrInet4{Port: 53, Addr: netip.MustParseAddr(c.svc).As4()}
	for range 30 {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		wait := syscall.Timeval{Sec: 2}
		err = errors.Join(syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait),
			syscall.Connect(fd, to), syscall.Sendto(fd, []byte("?"), 0, to))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := syscall.Recvfrom(fd, make([]byte, 100), 0); err != nil {
			t.Fatalf("no answer: %v", err)
		}
		// connect(AF_UNSPEC) dissolves it: from then on it chooses anew.
		unspec := syscall.RawSockaddr{Family: syscall.AF_UNSPEC}
		if _, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec)); errno != 0 {
			t.Fatal(errno)
		}
		if err := syscall.Sendto(fd, []byte("?"), 0, to); err != nil {
			t.Fatal(err)
		}
		_, from, err := syscall.Recvfrom(fd, make([]byte, 100), 0)
		if err != nil {
			t.Fatalf("no answer after connect(AF_UNSPEC): %v", err)
		}
		if got := from.(*syscall.SockaddrInet4); got.Addr != to.Addr || got.Port != to.Port {
			t.Errorf("the answer came from %v:%d", got.Addr, got.Port)
		}
		syscall.Close(fd)
	}
}
