// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestCollisions(t *testing.T) {
	wanted := plan(Topology{Name: "lab", Racks: []int{1}, Machine: true}).machinePrefixes()
	const main = 254
	route := func(prefix, device string, table int) inUse {
		return inUse{prefix: netip.MustParsePrefix(prefix), device: device, table: table}
	}
	address := func(prefix, device string) inUse {
		return inUse{prefix: netip.MustParsePrefix(prefix), device: device, address: true}
	}
	for _, row := range []struct {
		name  string
		found []inUse
		want  []string // one for each error, with what it has to say
	}{
		{"an ordinary machine", []inUse{
			address("192.0.2.2/24", "eth0"), route("192.0.2.0/24", "eth0", main), route("0.0.0.0/0", "eth0", main),
			address("127.0.0.1/8", "lo"), address("fd00::2/64", "eth0"), route("fe80::/64", "eth0", main),
			address("172.17.0.1/16", "docker0"), route("172.17.0.0/16", "docker0", main),
		}, nil},
		{"a VPN that takes everything", []inUse{
			route("0.0.0.0/1", "tun0", main), route("128.0.0.0/1", "tun0", main), route("0.0.0.0/0", "wg0", 51820),
			route("::/3", "tun0", main), route("2000::/4", "tun0", main), route("fc00::/7", "tun0", main), route("8000::/1", "tun0", main),
		}, nil},
		{"docker in the racks", []inUse{address("198.18.0.1/24", "docker0"), route("198.18.0.0/24", "docker0", main)},
			[]string{"device docker0 has the address 198.18.0.1/24, within the lab's 198.18.0.0/24"}},
		{"a pod network", []inUse{route("10.244.0.0/24", "cni0", main)},
			[]string{"ip route del 10.244.0.0/24 dev cni0 table 254"}},
		{"a company's VPN", []inUse{route("10.0.0.0/8", "tun0", main), route("fd00::/8", "tun0", main)},
			[]string{"route 10.0.0.0/8 dev tun0 (table 254) overlaps the lab's 10.244.0.0/16", "route fd00::/8 dev tun0 (table 254) overlaps the lab's fd00:10:244::/48"}},
		{"a VPN's own table", []inUse{route("10.0.0.0/8", "tailscale0", 52)}, []string{"ip route del 10.0.0.0/8 dev tailscale0 table 52"}},
		{"a hole", []inUse{route("2001:db8::/32", "", main)}, []string{"ip route del 2001:db8::/32 table 254"}},
		{"a wide local network", []inUse{address("10.1.2.3/8", "eth0"), route("10.0.0.0/8", "eth0", main)},
			[]string{"device eth0 has the address 10.1.2.3/8, within"}},
		{"another lab", []inUse{address("198.19.255.2/24", "wgl-other"), route("198.19.255.0/24", "wgl-other", main),
			address("2001:db8:fe::2/64", "wgl-other"), route("10.244.0.0/16", "wgl-other", main)},
			[]string{"lab other is joined to the machine"}},
		{"a device named like a lab's", []inUse{address("198.19.255.2/24", "wgl-My VPN")}, []string{"device wgl-My VPN has the address"}},
	} {
		errs := collisions(wanted, row.found)
		if len(errs) != len(row.want) {
			t.Errorf("%s: %d errors, want %d: %v", row.name, len(errs), len(row.want), errors.Join(errs...))
			continue
		}
		for i, want := range row.want {
			if !strings.Contains(errs[i].Error(), want) {
				t.Errorf("%s: got error %v, want %q", row.name, errs[i], want)
			}
		}
	}
}
