// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"strings"
	"testing"
)

func TestTopologyDefaults(t *testing.T) {
	got := Topology{}.withDefaults()
	if err := got.validate(); err != nil {
		t.Error(err)
	}
	if got.Name != "lab" || got.MTU != 1500 || len(got.Racks) != 1 || got.Racks[0] != 1 {
		t.Errorf("defaults are %+v", got)
	}
	if !strings.HasSuffix(got.BinDir, "/bin") {
		t.Errorf("bin folder is %q, want the module's bin", got.BinDir)
	}
}

func TestTopologyErrors(t *testing.T) {
	for _, row := range []struct {
		topology Topology
		want     string
	}{
		{Topology{Name: "Lab"}, `lab name "Lab": use one to eight characters of a-z and 0-9`},
		{Topology{Name: "ninechars"}, `lab name "ninechars"`},
		{Topology{Name: "../x"}, `lab name "../x"`},
		{Topology{Racks: []int{1, -1}}, "rack 1: -1 nodes, want 0 to 200"},
		{Topology{Racks: []int{200, 1}}, "racks: 201 nodes in total, at most 200 possible"},
		{Topology{Racks: make([]int, 65)}, "racks: 65 given, at most 64 possible"},
		{Topology{MTU: 576}, "mtu 576: want 1280 to 65535"},
		{Topology{BinDir: "bin"}, `bin folder "bin": want an absolute path`},
		{Topology{Private: []string{"/var/../etc"}}, `private folder "/var/../etc": want a clean absolute path`},
		{Topology{Private: []string{"/"}}, `private folder "/"`},
		{Topology{Name: "X", MTU: 1}, "mtu 1"}, // all that is wrong, not the first only
	} {
		err := row.topology.withDefaults().validate()
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: got error %v, want %q", row.topology, err, row.want)
		}
	}
}
