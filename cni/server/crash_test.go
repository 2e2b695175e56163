// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"testing"

	"github.com/waggle-net/waggle/datapath/endpoint"
)

// What kill -9 leaves at each step of ADD and DEL: the next daemon finishes
// it, no address is lost or given twice, and the runtime's DEL and another ADD
// work as if nothing had been.
func TestKilledAtEachStep(t *testing.T) {
	for name, c := range map[string]struct {
		// cut sets where the daemon dies, which it does by calling dies.
		cut func(n *node, dies func())
		// alive says whether the pod, of which the runtime may or may not have
		// heard, is there after the restart.
		alive bool
	}{
		"ADD, written down": {func(n *node, dies func()) {
			n.dp.hook(&n.dp.onAdd, func(*endpoint.Spec) error { dies(); return nil })
		}, false},
		"ADD, built": {func(n *node, dies func()) {
			n.dp.hook(&n.dp.onAdd, func(s *endpoint.Spec) error {
				n.dp.build(s)
				dies()
				n.dp.unbuild(s)
				return nil
			})
		}, false},
		"DEL, nothing done": {func(n *node, dies func()) {
			n.dp.hook(&n.dp.onDelete, func(*endpoint.Spec) error { dies(); return nil })
		}, true},
		"DEL, taken away": {func(n *node, dies func()) {
			n.dp.hook(&n.dp.onDelete, func(s *endpoint.Spec) error { n.dp.unbuild(s); dies(); return nil })
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, config(t))
			n.mustAdd("before")
			var next *node
			c.cut(n, func() {
				if next == nil {
					next = n.crash()
				}
			})
			n.mustAdd("cut")
			n.mustDel("cut")
			if next == nil {
				t.Fatal("the daemon was never killed")
			}
			next.serve()
			ids := containers(next)
			if slices.Contains(ids, "cut") != c.alive || !slices.Contains(ids, "before") {
				t.Errorf("after the restart there are %v", ids)
			}
			next.mustDel("cut") // as the runtime does, having got no answer
			next.consistent()
			next.mustAdd("cut")
			next.consistent()
			if got := containers(next); len(got) != 2 {
				t.Errorf("in the end there are %v", got)
			}
		})
	}
}

func containers(n *node) (ids []string) {
	for _, s := range n.Endpoints() {
		ids = append(ids, s.ContainerID)
	}
	return ids
}

func (d *fakeDatapath) build(s *endpoint.Spec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.built == nil {
		d.built = make(map[string]endpoint.Spec)
	}
	d.built[s.HostIfName] = *s
}

func (d *fakeDatapath) unbuild(s *endpoint.Spec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.built, s.HostIfName)
}

// A DEL that the plugin answered while no daemon ran is done by the next one,
// before it listens.
func TestDeletedWhileDown(t *testing.T) {
	n := start(t, config(t))
	n.mustAdd("stays")
	n.mustAdd("goes")
	n.stop()
	for _, id := range []string{"goes", "unknown"} {
		if err := n.queue.Put(attachment(id)); err != nil {
			t.Fatal(err)
		}
	}
	next := open(t, n.cfg, n.dp).serve()
	if got := containers(next); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("after the restart there are %v", got)
	}
	next.consistent()
	for _, id := range []string{"goes", "unknown"} {
		if left, err := next.queue.Has(attachment(id)); err != nil || left {
			t.Errorf("the queue still holds %s: %v, %v", id, left, err)
		}
	}
}
