// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package route

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// advertise sends a router advertisement from fe80::1 on eth0 (RFC 4861, 4.2).
func advertise(router *host) {
	router.t.Helper()
	router.do("send router advertisement", func() error {
		s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		if err := unix.BindToDevice(s, "eth0"); err != nil {
			return err
		}
		// Anything less could have come from another link.
		if err := unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		ra := []byte{
			134, 0, 0, 0, // type, code, checksum (the kernel's)
			64, 0, 0x07, 0x08, // hop limit, flags, router lifetime 1800 s
			0, 0, 0, 0, 0, 0, 0, 0, // reachable time, retransmission timer
		}
		allNodes := &unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 0x02, 15: 1}}
		return unix.Sendto(s, ra, 0, allNodes)
	})
}

// hasAdvertisedRoute says whether the node follows the advertisement, within
// the time given.
func hasAdvertisedRoute(node *host, within time.Duration) bool {
	node.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; <-tick.C {
		if strings.Contains(node.sh("ip -6 route show default"), "via fe80::1 dev up0 proto ra") {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func nodeAndRouter(t *testing.T) (node, router *host) {
	t.Helper()
	node, router = newHost(t), newHost(t)
	node.link("up0", router, "02:00:00:00:02:01", "02:00:00:00:02:02")
	node.sh("ip addr add fe80::2/64 dev up0 nodad")
	router.sh("ip addr add fe80::1/64 dev eth0 nodad")
	return node, router
}

func v6Only(t *testing.T) Config { return Config{PodCIDRs: prefixes(t, "fd00:10:244:1::/64")} }

// A node that has its default route from a router advertisement keeps it, and
// keeps listening.
func TestForwardingKeepsAdvertisedRoute(t *testing.T) {
	node, router := nodeAndRouter(t)
	node.link("off0", newHost(t), "02:00:00:00:03:01", "02:00:00:00:03:02")
	node.sh("sysctl -qw net.ipv6.conf.off0.accept_ra=0")
	advertise(router)
	if !hasAdvertisedRoute(node, 5*time.Second) {
		t.Fatal("the node does not follow router advertisements before anything is done")
	}
	node.sync(node.manager(v6Only(t)))
	if !hasAdvertisedRoute(node, 0) {
		t.Error("the route has gone with Sync")
	}
	node.sh("ip -6 route del default via fe80::1 dev up0")
	advertise(router)
	if !hasAdvertisedRoute(node, 5*time.Second) {
		t.Error("the node has stopped listening to router advertisements")
	}
	node.expect("sysctl net.ipv6.conf.up0.accept_ra net.ipv6.conf.off0.accept_ra net.ipv6.conf.default.accept_ra net.ipv4.ip_forward", `
		net.ipv6.conf.up0.accept_ra = 2
		net.ipv6.conf.off0.accept_ra = 0
		net.ipv6.conf.default.accept_ra = 1
		net.ipv4.ip_forward = 0`)
}

// A device that ignores advertisements because the node forwards already, such
// as that of a container, goes on ignoring them.
func TestForwardingMakesNobodyListen(t *testing.T) {
	node, router := nodeAndRouter(t)
	node.sh("sysctl -qw net.ipv6.conf.all.forwarding=1")
	node.sync(node.manager(v6Only(t)))
	advertise(router)
	if hasAdvertisedRoute(node, 200*time.Millisecond) {
		t.Error("the node follows router advertisements that it did not follow before")
	}
	node.expect("sysctl -n net.ipv6.conf.up0.accept_ra", "1")
}
