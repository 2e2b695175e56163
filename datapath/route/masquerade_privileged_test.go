// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pod, its node and the world beyond, which knows the way back to the pod:
//
//	pod 10.244.1.7 ---- node ---- world 192.0.2.2 and 198.51.100.1
//	fd00:10:244:1::7   192.0.2.1       2001:db8::2 and 2001:db8:9::1
//	                 2001:db8::1
func podNodeWorld(t *testing.T) (pod, node, world *host, podLink int) {
	t.Helper()
	pod, node, world = newHost(t), newHost(t), newHost(t)
	podLink = node.link("pod0", pod, "02:00:00:00:01:01", podMAC)
	node.link("up0", world, "02:00:00:00:02:01", "02:00:00:00:02:02")
	pod.sh(`
		ip addr add 10.244.1.7/32 dev eth0
		ip route add 169.254.1.1 dev eth0 scope link
		ip route add default via 169.254.1.1
		ip neigh add 169.254.1.1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent
		ip addr add fd00:10:244:1::7/128 dev eth0 nodad
		ip -6 route add default via fe80::1 dev eth0
		ip neigh add fe80::1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent
	`)
	node.sh(`
		ip addr add 192.0.2.1/24 dev up0
		ip addr add 2001:db8::1/64 dev up0 nodad
		ip route add default via 192.0.2.2
		ip -6 route add default via 2001:db8::2
	`)
	world.sh(`
		ip addr add 192.0.2.2/24 dev eth0
		ip addr add 198.51.100.1/32 dev lo
		ip addr add 2001:db8::2/64 dev eth0 nodad
		ip addr add 2001:db8:9::1/128 dev lo nodad
		ip route add 10.244.1.0/24 via 192.0.2.1
		ip -6 route add fd00:10:244:1::/64 via 2001:db8::1
	`)
	return pod, node, world, podLink
}

func TestMasquerade(t *testing.T) {
	pod, node, world, link := podNodeWorld(t)
	cfg := dualStack(t)
	node.do("add endpoint", func() error {
		return node.manager(cfg).AddEndpoint(link, podAddrs(), mustMAC(t, podMAC))
	})
	node.sync(node.manager(cfg))
	const pod4, pod6 = "10.244.1.7", "fd00:10:244:1::7"
	check := func(client *host, dst, want string) {
		t.Helper()
		for _, network := range []string{"tcp", "udp"} {
			got, err := sourceSeen(client, world, network, netip.MustParseAddr(dst))
			if err != nil || got != want {
				t.Errorf("%s to %s: the world sees %s, error %v; want %s", network, dst, got, err, want)
			}
		}
	}
	check(pod, "192.0.2.2", "192.0.2.1")
	check(pod, "2001:db8::2", "2001:db8::1")
	check(pod, "198.51.100.1", pod4)
	check(pod, "2001:db8:9::1", pod6)
	check(node, "192.0.2.2", "192.0.2.1")
	check(node, "2001:db8::2", "2001:db8::1")

	// Two flows of each family have been masqueraded. Their counters stay.
	const count = `nft list chain inet waggle postrouting | grep -o 'packets [0-9]*'`
	node.sync(node.manager(cfg))
	if got, want := node.sh(count), "packets 2\npackets 2\n"; got != want {
		t.Errorf("counters %q, want %q", got, want)
	}

	// The neighbour entries spare the pod all questions.
	if got := node.sh("ip neigh show dev pod0"); strings.Contains(got, "REACHABLE") || strings.Contains(got, "FAILED") {
		t.Errorf("the node has asked on pod0:\n%s", got)
	}

	cfg.Masquerade = false
	node.sync(node.manager(cfg))
	check(pod, "192.0.2.2", pod4)
	check(pod, "2001:db8::2", pod6)
}

// Elements of a set that need several messages arrive as one table, and are
// known again.
func TestManyExclusions(t *testing.T) {
	node := newHost(t)
	cfg := dualStack(t)
	for i := range 1500 {
		addr := netip.AddrFrom4([4]byte{100, 64 + byte(i/128), byte(i%128) * 2, 1})
		cfg.MasqueradeExclusions = append(cfg.MasqueradeExclusions, netip.PrefixFrom(addr, 32))
	}
	node.sync(node.manager(cfg))
	if got, want := node.sh("nft list set inet waggle direct4 | grep -oE '100[.][67][0-9.]+' | wc -l"), "1500\n"; got != want {
		t.Errorf("%s exclusions, want %s", got, want)
	}
	handles := node.sh("nft -a list table inet waggle")
	node.sync(node.manager(cfg))
	if node.sh("nft -a list table inet waggle") != handles {
		t.Error("the second Sync has written the table again")
	}
}

// An address of no pod is refused by the node, whose default route would lead
// back to the world otherwise.
func TestUnreachable(t *testing.T) {
	_, node, world, _ := podNodeWorld(t)
	node.sync(node.manager(dualStack(t)))
	for dst, want := range map[string]unix.Errno{
		"10.244.1.99":       unix.EHOSTUNREACH, // ICMP host unreachable
		"fd00:10:244:1::99": unix.ENETUNREACH,  // ICMPv6 no route to destination
	} {
		err := world.try(func() error {
			d := net.Dialer{Timeout: 5 * time.Second}
			c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(dst, "80"))
			if err == nil {
				c.Close()
			}
			return err
		})
		if !errors.Is(err, want) {
			t.Errorf("connect to %s: error %v, want %v", dst, err, want)
		}
	}
}

// sourceSeen sends something from the client to an address of the server, and
// returns the source address under which it arrives, once the answer is back.
func sourceSeen(client, server *host, network string, dst netip.Addr) (seen string, err error) {
	const deadline = 5 * time.Second
	var addr string
	var serve func() (string, error)
	err = server.try(func() (err error) {
		addr, serve, err = echo(network, netip.AddrPortFrom(dst, 0), time.Now().Add(deadline))
		return err
	})
	if err != nil {
		return "", err
	}
	type answer struct {
		seen string
		err  error
	}
	served := make(chan answer, 1)
	go func() {
		seen, err := serve()
		served <- answer{seen, err}
	}()
	err = client.try(func() error {
		d := net.Dialer{Timeout: deadline}
		c, err := d.Dial(network, addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		buf := make([]byte, 16)
		n, err := c.Read(buf)
		if err == nil && string(buf[:n]) != "hello" {
			err = fmt.Errorf("answer %q", buf[:n])
		}
		return err
	})
	a := <-served
	return a.seen, errors.Join(err, a.err)
}

// echo opens a socket and returns its address, and a function that answers
// once and returns who asked.
func echo(network string, at netip.AddrPort, deadline time.Time) (addr string, serve func() (string, error), err error) {
	if network == "udp" {
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return "", nil, err
		}
		c.SetDeadline(deadline)
		return c.LocalAddr().String(), func() (string, error) {
			defer c.Close()
			buf := make([]byte, 16)
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err == nil {
				_, err = c.WriteToUDPAddrPort(buf[:n], from)
			}
			return from.Addr().Unmap().String(), err
		}, nil
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return "", nil, err
	}
	l.SetDeadline(deadline)
	return l.Addr().String(), func() (string, error) {
		defer l.Close()
		c, err := l.AcceptTCP()
		if err != nil {
			return "", err
		}
		defer c.Close()
		c.SetDeadline(deadline)
		buf := make([]byte, 16)
		n, err := c.Read(buf)
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		return from.Addr().Unmap().String(), err
	}, nil
}
