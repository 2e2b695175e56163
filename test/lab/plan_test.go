// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlan(t *testing.T) {
	l := plan(Topology{Name: "lab", Racks: []int{2, 1}, Client: true}.withDefaults())
	var got strings.Builder
	for _, h := range l.Hosts() {
		fmt.Fprintf(&got, "%s rack %d %s %s %s via %v pods %v\n", h.Name, h.Rack, h.MAC, h.IPv4, h.IPv6, h.Gateways(), h.PodCIDRs)
	}
	want := `
router rack -1 02:77:67:02:00:00 198.18.0.1 2001:db8::1 via [] pods []
node1 rack 0 02:77:67:01:00:01 198.18.0.11 2001:db8::b via [198.18.0.1 2001:db8::1] pods [10.244.1.0/24 fd00:10:244:1::/64]
node2 rack 0 02:77:67:01:00:02 198.18.0.12 2001:db8::c via [198.18.0.1 2001:db8::1] pods [10.244.2.0/24 fd00:10:244:2::/64]
node3 rack 1 02:77:67:01:01:03 198.18.1.11 2001:db8:1::b via [198.18.1.1 2001:db8:1::1] pods [10.244.3.0/24 fd00:10:244:3::/64]
client rack -1 02:77:67:04:ff:01 198.19.0.2 2001:db8:ff::2 via [198.19.0.1 2001:db8:ff::1] pods []
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got.String()); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if l.Host("node4") != nil || plan(Topology{Racks: []int{1}}).Client() != nil {
		t.Error("plan has hosts that nobody asked for")
	}
}

// TestPlanNeverRepeats: in the largest lab, no address, range or MAC occurs twice,
// and all pod ranges lie in the cluster's.
func TestPlanNeverRepeats(t *testing.T) {
	racks := make([]int, maxRacks)
	for i := range racks {
		racks[i] = maxNodes / maxRacks
	}
	racks[0] += maxNodes % maxRacks
	seen := map[string]string{}
	add := func(h *Host, value fmt.Stringer) {
		if other, ok := seen[value.String()]; ok {
			t.Errorf("%s and %s both have %s", other, h.Name, value)
		}
		seen[value.String()] = h.Name
	}
	for _, h := range plan(Topology{Racks: racks, Client: true}).Hosts() {
		add(h, h.IPv4)
		add(h, h.IPv6)
		add(h, h.MAC)
		if h.Kind == KindNode {
			add(h, hardwareAddr(macPort, h.Rack, h.Number))
		}
		for i, cidr := range h.PodCIDRs {
			add(h, cidr)
			if !ClusterCIDRs()[i].Overlaps(cidr) {
				t.Errorf("%s: %s is outside of %s", h.Name, cidr, ClusterCIDRs()[i])
			}
		}
	}
}
