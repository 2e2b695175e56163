// SPDX-License-Identifier: Apache-2.0

package intent

import (
	"maps"
	"reflect"
	"sync"
)

// Table is a set of values by key that says what has changed.
//
// One Source writes it; any number of Watchers read the changes, each at its
// own pace. Changes of one key coalesce, so a slow reader sees the newest value
// and does not hold anybody up. A value is not to be modified once it is in.
type Table[K comparable, V any] struct {
	mu       sync.Mutex
	values   map[K]V
	synced   bool
	watchers []*Watcher[K, V]
}

// NewTable returns an empty table that is not synced.
func NewTable[K comparable, V any]() *Table[K, V] {
	return &Table[K, V]{values: make(map[K]V)}
}

// Set puts a value in. Setting an equal value is no change.
func (t *Table[K, V]) Set(k K, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(k, v)
}

// Delete takes a value out. Deleting what is absent is no change.
func (t *Table[K, V]) Delete(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.delete(k)
}

// Replace makes the table hold exactly the given values.
func (t *Table[K, V]) Replace(values map[K]V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.values {
		if _, ok := values[k]; !ok {
			t.delete(k)
		}
	}
	for k, v := range values {
		t.set(k, v)
	}
}

// MarkSynced says that the table holds everything that exists.
func (t *Table[K, V]) MarkSynced() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.synced {
		return
	}
	t.synced = true
	for _, w := range t.watchers {
		w.wake()
	}
}

// Snapshot returns a copy of the table, and whether it is synced.
func (t *Table[K, V]) Snapshot() (values map[K]V, synced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.values), t.synced
}

// Watch returns a Watcher whose first changes are everything that the table holds.
func (t *Table[K, V]) Watch() *Watcher[K, V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &Watcher[K, V]{table: t, dirty: make(map[K]struct{}), c: make(chan struct{}, 1)}
	for k := range t.values {
		w.dirty[k] = struct{}{}
	}
	t.watchers = append(t.watchers, w)
	w.wake()
	return w
}

func (t *Table[K, V]) set(k K, v V) {
	if old, ok := t.values[k]; ok && reflect.DeepEqual(old, v) {
		return
	}
	t.values[k] = v
	t.touch(k)
}

func (t *Table[K, V]) delete(k K) {
	if _, ok := t.values[k]; !ok {
		return
	}
	delete(t.values, k)
	t.touch(k)
}

func (t *Table[K, V]) touch(k K) {
	for _, w := range t.watchers {
		w.dirty[k] = struct{}{}
		w.wake()
	}
}

// Watcher collects the keys of a Table that changed since it last looked.
type Watcher[K comparable, V any] struct {
	table *Table[K, V]
	dirty map[K]struct{}
	c     chan struct{}
}

// C receives when there may be something new for Next to return.
func (w *Watcher[K, V]) C() <-chan struct{} { return w.c }

// Next returns what changed since the last call: the newest value of each
// changed key, nil where it was deleted. Before the table is synced it returns
// false and forgets nothing.
func (w *Watcher[K, V]) Next() (changes map[K]*V, synced bool) {
	t := w.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.synced {
		return nil, false
	}
	changes = make(map[K]*V, len(w.dirty))
	for k := range w.dirty {
		if v, ok := t.values[k]; ok {
			changes[k] = &v
		} else {
			changes[k] = nil
		}
	}
	clear(w.dirty)
	return changes, true
}

func (w *Watcher[K, V]) wake() {
	select {
	case w.c <- struct{}{}:
	default: // already told
	}
}
