// SPDX-License-Identifier: Apache-2.0

package intent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
)

func told(w *Watcher[string, int]) bool {
	select {
	case <-w.C():
		return true
	default:
		return false
	}
}

func text(changes map[string]*int) string {
	plain := make(map[string]string)
	for k, v := range changes {
		if plain[k] = "deleted"; v != nil {
			plain[k] = fmt.Sprint(*v)
		}
	}
	return fmt.Sprint(plain) // in the order of keys
}

func TestTable(t *testing.T) {
	table := NewTable[string, int]()
	table.Set("a", 1)
	w := table.Watch()
	if _, synced := w.Next(); synced {
		t.Error("changes came before the table was synced")
	}
	table.Set("b", 2)
	table.MarkSynced()
	for _, step := range []struct {
		change func()
		told   bool
		want   string
	}{
		{func() {}, true, "map[a:1 b:2]"},
		{func() {}, false, "map[]"},
		{func() { table.Set("a", 1) }, false, "map[]"}, // no change
		{func() { table.Delete("c") }, false, "map[]"},
		{func() { table.Set("a", 3); table.Set("a", 4) }, true, "map[a:4]"},
		{func() { table.Delete("a"); table.Set("c", 5) }, true, "map[a:deleted c:5]"},
		{func() { table.Replace(map[string]int{"b": 2, "d": 6}) }, true, "map[c:deleted d:6]"},
		{func() { table.Set("e", 1); table.Delete("e") }, true, "map[e:deleted]"},
	} {
		step.change()
		if got := told(w); got != step.told {
			t.Errorf("before %s: told is %v, want %v", step.want, got, step.told)
		}
		changes, synced := w.Next()
		if got := text(changes); got != step.want || !synced {
			t.Errorf("changes are %s (synced %v), want %s", got, synced, step.want)
		}
	}
	if got := text(must(table.Watch().Next())); got != "map[b:2 d:6]" {
		t.Errorf("a new watcher sees %s", got)
	}
}

func must(changes map[string]*int, _ bool) map[string]*int { return changes }

// Whatever the timing, a reader that follows the changes ends with what the
// table holds.
func TestTableConverges(t *testing.T) {
	table := NewTable[string, int]()
	table.MarkSynced()
	w := table.Watch()
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			for range 2000 {
				key := fmt.Sprintf("%d-%d", writer, rand.IntN(20))
				if rand.IntN(3) == 0 {
					table.Delete(key)
				} else {
					table.Set(key, rand.Int())
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); wg.Wait() }()
	have := make(map[string]int)
	follow := func() {
		changes, _ := w.Next()
		for k, v := range changes {
			if v == nil {
				delete(have, k)
			} else {
				have[k] = *v
			}
		}
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-w.C():
			follow()
		}
	}
	follow()
	if want, _ := table.Snapshot(); !maps.Equal(have, want) {
		t.Errorf("the reader has %v, the table %v", have, want)
	}
}

func TestProtocol(t *testing.T) {
	for text, want := range map[string]Protocol{"": TCP, "TCP": TCP, "UDP": UDP, "SCTP": SCTP} {
		var p Protocol
		if err := p.UnmarshalText([]byte(text)); err != nil || p != want {
			t.Errorf("%q is %v, %v", text, p, err)
		}
	}
	var p Protocol
	if err := p.UnmarshalText([]byte("tcp")); err == nil {
		t.Error("tcp in lower case is accepted, which Kubernetes does not")
	}
	if got := Protocol(99).String(); got != "IP-99" {
		t.Errorf("protocol 99 is %q", got)
	}
}
