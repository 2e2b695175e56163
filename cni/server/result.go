// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/waggle-net/waggle/datapath/endpoint"
)

// result is what ADD tells the runtime: the device's two sides, an address per
// family that is alone in its prefix, and a default route for each.
func result(s *endpoint.Spec) *types100.Result {
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: s.HostIfName, Mac: s.HostMAC.String(), Mtu: s.MTU},
			{Name: s.IfName, Mac: s.PodMAC.String(), Mtu: s.MTU, Sandbox: s.NetNS},
		},
	}
	for _, a := range s.Addresses {
		gateway, everywhere := endpoint.Gateway4, netip.IPv4Unspecified()
		if a.Is6() {
			gateway, everywhere = endpoint.Gateway6, netip.IPv6Unspecified()
		}
		r.IPs = append(r.IPs, &types100.IPConfig{
			Interface: new(1),
			Address:   ipNet(a, a.BitLen()),
			Gateway:   gateway.AsSlice(),
		})
		r.Routes = append(r.Routes, &types.Route{Dst: ipNet(everywhere, 0), GW: gateway.AsSlice()})
	}
	return r
}

func ipNet(a netip.Addr, bits int) net.IPNet {
	return net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}
