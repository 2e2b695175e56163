// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package route

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestEndpoint(t *testing.T) {
	node, old := nodeWithPod(t)
	link := node.link("pod1", newHost(t), "02:00:00:00:02:01", "02:00:00:00:02:07")
	m := node.manager(Config{})
	mac, mac2 := mustMAC(t, podMAC), mustMAC(t, "02:00:00:00:02:07")
	check := func(want string) {
		t.Helper()
		err := node.try(func() error { return m.CheckEndpoint(link, podAddrs(), mac2) })
		var got string
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
			t.Errorf("CheckEndpoint (-want +got):\n%s", diff)
		}
	}
	node.do("add to the old device", func() error { return m.AddEndpoint(old, podAddrs(), mac) })
	check(`route 10.244.1.7 dev pod1 proto 119 is missing
		neighbour 10.244.1.7 lladdr 02:00:00:00:02:07 dev pod1 nud permanent is missing
		route fd00:10:244:1::7 dev pod1 proto 119 is missing
		neighbour fd00:10:244:1::7 lladdr 02:00:00:00:02:07 dev pod1 nud permanent is missing`)
	node.do("move to another device", func() error { return m.AddEndpoint(link, podAddrs(), mac2) })
	check("")
	node.do("delete from the old device", func() error { return m.DelEndpoint(old, podAddrs()) })
	check("")
	node.expect("ip neigh show nud permanent dev pod0", "10.9.0.9 lladdr 02:00:00:00:09:09 PERMANENT")

	node.sh("ip route del 10.244.1.7; ip neigh replace fd00:10:244:1::7 lladdr 02:00:00:00:66:66 dev pod1 nud permanent")
	check(`route 10.244.1.7 dev pod1 proto 119 is missing
		neighbour fd00:10:244:1::7 lladdr 02:00:00:00:02:07 dev pod1 nud permanent is missing`)
	node.do("delete", func() error { return m.DelEndpoint(link, podAddrs()) })
	node.do("delete again", func() error { return m.DelEndpoint(link, podAddrs()) })
	node.expect("ip route show proto 119; ip -6 route show proto 119; ip neigh show dev pod1", "")

	// A device that goes takes everything with it: that is no error.
	node.do("add", func() error { return m.AddEndpoint(link, podAddrs(), mac2) })
	node.sh("ip link del pod1")
	node.sync(m)
	node.do("delete after the device", func() error { return m.DelEndpoint(link, podAddrs()) })
	if len(m.endpoints) != 0 {
		t.Errorf("still remembers %v", m.endpoints)
	}
	if err := node.try(func() error { return m.AddEndpoint(link, podAddrs(), mac2) }); !errors.Is(err, unix.ENODEV) {
		t.Errorf("add to a device that is gone: error %v, want ENODEV", err)
	}
}
