// SPDX-License-Identifier: Apache-2.0

package flow

import "testing"

// The names come from BTF; this pins the layout that Go computes with to what
// C was compiled with, and numbers that people may have written down.
func TestNames(t *testing.T) {
	n, err := LoadNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		index      uint32
		hook, name string
		drop       bool
	}{
		{0, "from_pod", "delivered", false},
		{1, "from_pod", "to_stack", false},
		{dropsAt, "from_pod", "truncated", true},
		{dropsAt + 3, "from_pod", "spoofed", true},
		{perHook + dropsAt + 11, "to_pod", "internal", true},
		{2*perHook + 4, "socket", "refused", false},
	} {
		got, ok := n.at(c.index)
		if !ok || got.Hook != c.hook || got.Name != c.name || got.Drop != c.drop {
			t.Errorf("counter %d is %+v (%v), want %+v", c.index, got, ok, c)
		}
	}
	if got := n.DropName(-133); got != "spoofed" {
		t.Errorf("drop reason -133 is %q, want spoofed", got)
	}
	if got := n.DropName(-200); got != "reason -200" {
		t.Errorf("drop reason -200 is %q", got)
	}
	for i := range uint32(4 * perHook) {
		if c, ok := n.at(i); ok && (c.Hook == "" || c.Name == "") {
			t.Errorf("counter %d has no name: %+v", i, c)
		}
	}
}
