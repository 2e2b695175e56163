// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Fake is a Table in memory, for tests that run without root. Its zero value
// is an empty table without limit.
type Fake[K comparable, V any] struct {
	// Max entries, 0 for no limit.
	Max uint32
	// Fail, where set, is asked before each change and may refuse it.
	Fail func() error

	entries map[K]V
}

// Name implements Table.
func (t *Fake[K, V]) Name() string { return "fake" }

// Lookup implements Table.
func (t *Fake[K, V]) Lookup(k K) (V, bool, error) {
	v, ok := t.entries[k]
	return v, ok, nil
}

// Update implements Table.
func (t *Fake[K, V]) Update(k K, v V) error {
	if err := t.fail(); err != nil {
		return err
	}
	if _, ok := t.entries[k]; !ok && t.Max > 0 && uint32(len(t.entries)) >= t.Max {
		return &FullError{Map: t.Name(), Max: t.Max, Remedy: "raise Max"}
	}
	if t.entries == nil {
		t.entries = make(map[K]V)
	}
	t.entries[k] = v
	return nil
}

// Delete implements Table.
func (t *Fake[K, V]) Delete(k K) error {
	if err := t.fail(); err != nil {
		return err
	}
	delete(t.entries, k)
	return nil
}

// All implements Table.
func (t *Fake[K, V]) All() (iter.Seq2[K, V], func() error) {
	return maps.All(maps.Clone(t.entries)), func() error { return nil }
}

func (t *Fake[K, V]) fail() error {
	if t.Fail == nil {
		return nil
	}
	return t.Fail()
}

// FakeArray is an Array in memory.
type FakeArray[V any] struct {
	Fail   func() error
	Values []V
}

// Name implements Array.
func (t *FakeArray[V]) Name() string { return "fake" }

// Len implements Array.
func (t *FakeArray[V]) Len() uint32 { return uint32(len(t.Values)) }

// Get implements Array.
func (t *FakeArray[V]) Get(i uint32) (v V, err error) {
	if i >= t.Len() {
		return v, fmt.Errorf("look up %d in an array of %d", i, t.Len())
	}
	return t.Values[i], nil
}

// GetAll implements Array.
func (t *FakeArray[V]) GetAll() ([]V, error) { return slices.Clone(t.Values), nil }

// Set implements Array.
func (t *FakeArray[V]) Set(i uint32, v V) error { return t.SetAll(i, []V{v}) }

// SetAll implements Array.
func (t *FakeArray[V]) SetAll(first uint32, values []V) error {
	if t.Fail != nil {
		if err := t.Fail(); err != nil {
			return err
		}
	}
	if uint64(first)+uint64(len(values)) > uint64(t.Len()) {
		return fmt.Errorf("set %d and following of %d", first, t.Len())
	}
	copy(t.Values[first:], values)
	return nil
}
