// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"net"
	"net/netip"
)

// Spec is everything that makes up one local endpoint: a pod's interface. It
// is decided once, written down before anything is built from it, and enough
// to build the endpoint, to check it and to take it away.
type Spec struct {
	// ID numbers the endpoint on this node, from 1 up to MaxID. It indexes the
	// kernel's per-endpoint arrays and is not reused while its holder exists.
	ID uint32 `json:"id"`
	// ContainerID and IfName name the attachment, as CNI does. IfName is the
	// device's name inside the pod.
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
	// HostIfName is the name of the device's host side.
	HostIfName string `json:"hostIfName"`
	// PodNamespace, PodName and PodUID are empty outside of Kubernetes.
	PodNamespace string `json:"podNamespace,omitempty"`
	PodName      string `json:"podName,omitempty"`
	PodUID       string `json:"podUID,omitempty"`
	// Addresses are at most one IPv4 and at most one IPv6 address, IPv4 first.
	Addresses []netip.Addr `json:"addresses"`
	// PodMAC and HostMAC are given to both ends when they are created: what
	// udev would make of an unset address is never relied on.
	PodMAC  MAC `json:"podMAC"`
	HostMAC MAC `json:"hostMAC"`
	// MTU of both ends, in bytes.
	MTU int `json:"mtu"`
	// NetNS is the path of the pod's namespace as the runtime gave it, for
	// messages only.
	NetNS string `json:"netns,omitempty"`
}

// MAC is a hardware address that is written as text in JSON.
type MAC net.HardwareAddr

func (m MAC) String() string { return net.HardwareAddr(m).String() }

// MarshalText writes the usual colon form.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the usual colon form.
func (m *MAC) UnmarshalText(b []byte) error {
	a, err := net.ParseMAC(string(b))
	*m = MAC(a)
	return err
}

// MaxID is the largest endpoint number: the size of the kernel's arrays.
const MaxID = 4095

// The pod's default gateways: link-local addresses that nothing needs to own,
// as the pod's neighbour entries for them are permanent.
var (
	Gateway4 = netip.MustParseAddr("169.254.1.1")
	Gateway6 = netip.MustParseAddr("fe80::1")
)
