// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package route

import (
	"errors"
	"testing"
)

func TestMTU(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		config, want int
	}{
		{"none", "", 0, 0},
		{"configured", "", 1380, 1380},
		{"IPv4", "ip link set a0 mtu 9000; ip route add default dev a0", 0, 9000},
		{"IPv4 before IPv6", "ip link set a0 mtu 9000; ip route add default dev a0; ip -6 route add default dev b0", 0, 9000},
		{"IPv6", "ip link set b0 mtu 1450; ip -6 route add default dev b0", 0, 1450},
		{"two", "ip link set a0 mtu 9000; ip link set b0 mtu 8000; ip route add default dev a0; ip route add default dev b0 metric 9", 0, 8000},
		{"two hops", "ip link set a0 mtu 9000; ip route add default nexthop dev a0 nexthop dev b0", 0, 1500},
		{"IPv6 hops", "ip link set a0 mtu 9000; ip -6 route add default nexthop via fe80::1 dev a0 nexthop via fe80::1 dev b0", 0, 1500},
		{"of the route", "ip route add default dev a0 mtu 1400", 0, 1400},
		{"other routes", "ip link set b0 mtu 1400; ip route add default dev a0; ip route add 10.0.0.0/8 dev b0; ip route add default dev b0 table 9", 0, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := newHost(t)
			node.link("a0", newHost(t), "02:00:00:00:01:01", "02:00:00:00:01:02")
			node.link("b0", newHost(t), "02:00:00:00:02:01", "02:00:00:00:02:02")
			node.sh(tt.script)
			var got int
			err := node.try(func() (err error) {
				got, err = node.manager(Config{MTU: tt.config}).MTU()
				return err
			})
			if got != tt.want || (tt.want == 0) != errors.Is(err, ErrNoDefaultRoute) {
				t.Errorf("MTU %d, error %v; want %d", got, err, tt.want)
			}
		})
	}
}
