// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net"
	"net/netip"
)

// The address plan. Racks, the client and the machine use the ranges set aside for
// benchmarks and documentation (RFC 2544, RFC 3849), so that no lab address can
// be meant for anybody outside.
const (
	rackNet4    = "198.18.%d.0/24"
	rackNet6    = "2001:db8:%x::/64"
	clientNet4  = "198.19.0.0/24"
	clientNet6  = "2001:db8:ff::/64"
	machineNet4 = "198.19.255.0/24"
	machineNet6 = "2001:db8:fe::/64"
	podNet4     = "10.244.%d.0/24"
	podNet6     = "fd00:10:244:%d::/64" // the node's number in decimal digits, to be read like IPv4's

	routerHost  = 1
	clientHost  = 2
	machineHost = 2
	firstNode   = 11
)

// ClusterCIDRs returns the ranges that hold the pod CIDRs of all nodes.
func ClusterCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}
}

// Kind tells what a host is for.
type Kind string

const (
	// KindNode is a machine that runs pods.
	KindNode Kind = "node"
	// KindRouter joins the racks and the client.
	KindRouter Kind = "router"
	// KindClient is outside of the cluster.
	KindClient Kind = "client"
)

// segment is one link-layer network of the lab: a rack, or the client's link.
type segment struct {
	device         string // the router's device
	net4, net6     netip.Prefix
	router4        netip.Addr
	router6        netip.Addr
	routerHardware net.HardwareAddr
}

func newSegment(device, net4, net6 string, mac net.HardwareAddr) segment {
	s := segment{device: device, net4: netip.MustParsePrefix(net4), net6: netip.MustParsePrefix(net6), routerHardware: mac}
	s.router4, s.router6 = nth(s.net4, routerHost), nth(s.net6, routerHost)
	return s
}

func rackSegment(rack int) segment {
	return newSegment(fmt.Sprintf("rack%d", rack), fmt.Sprintf(rackNet4, rack), fmt.Sprintf(rackNet6, rack),
		hardwareAddr(macRouter, rack, 0))
}

func clientSegment() segment {
	return newSegment("client0", clientNet4, clientNet6, hardwareAddr(macRouter, 0xff, 0))
}

func machineSegment() segment {
	return newSegment("machine0", machineNet4, machineNet6, hardwareAddr(macRouter, 0xfe, 0))
}

// The fourth byte of a lab's MAC address says whose it is, so that a packet
// capture can be read without a table.
const (
	macNode    = 0x01
	macRouter  = 0x02
	macPort    = 0x03 // the router's end of a host's veth pair
	macClient  = 0x04
	macMachine = 0x05
)

func machineHardware() net.HardwareAddr { return hardwareAddr(macMachine, 0xfe, 1) }

// hardwareAddr returns a locally administered unicast address: the same each
// time, so that captures of two runs compare.
func hardwareAddr(role byte, rack, number int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x77, 0x67, role, byte(rack), byte(number)}
}

// nth returns the host address n of a prefix whose last byte is free.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// plan lays the topology out. It only computes: the same topology gives the same
// hosts and addresses in every process, so that Open needs no more than the
// topology to know a running lab.
func plan(t Topology) *Lab {
	l := &Lab{Topology: t}
	first := rackSegment(0)
	l.router = &Host{Name: "router", Kind: KindRouter, Rack: -1, IPv4: first.router4, IPv6: first.router6,
		MAC: first.routerHardware, lab: l}
	for rack, nodes := range t.Racks {
		seg := rackSegment(rack)
		for i := range nodes {
			l.nodes = append(l.nodes, planNode(l, seg, rack, i, len(l.nodes)+1))
		}
	}
	if t.Client {
		seg := clientSegment()
		l.client = &Host{Name: "client", Kind: KindClient, Rack: -1, MAC: hardwareAddr(macClient, 0xff, 1), lab: l, segment: seg,
			IPv4: nth(seg.net4, clientHost), IPv6: nth(seg.net6, clientHost)}
	}
	return l
}

func planNode(l *Lab, seg segment, rack, place, number int) *Host {
	return &Host{
		Name: fmt.Sprintf("node%d", number), Kind: KindNode, Rack: rack, Number: number,
		IPv4: nth(seg.net4, firstNode+place), IPv6: nth(seg.net6, firstNode+place),
		PodCIDRs: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf(podNet4, number)),
			netip.MustParsePrefix(fmt.Sprintf(podNet6, number)),
		},
		MAC: hardwareAddr(macNode, rack, number), lab: l, segment: seg,
	}
}
