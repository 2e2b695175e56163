// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"
	"iter"
	"syscall"

	"github.com/cilium/ebpf"
)

// Table is a map with typed keys and values.
type Table[K comparable, V any] interface {
	// Name is the map's name in the kernel.
	Name() string
	// Lookup returns a value, and false where there is none.
	Lookup(K) (V, bool, error)
	// Update puts a value in, new or not. A full map is a FullError.
	Update(K, V) error
	// Delete takes a key out. Deleting what is absent succeeds.
	Delete(K) error
	// All walks the entries and says at its end whether it saw all of them.
	All() (iter.Seq2[K, V], func() error)
}

// FullError says that a map has no room, and what gives it more.
type FullError struct {
	Map    string
	Max    uint32
	Remedy string
}

func (e *FullError) Error() string {
	return fmt.Sprintf("map %s is full at %d entries: %s", e.Map, e.Max, e.Remedy)
}

// Kernel is a Table in the kernel.
type Kernel[K comparable, V any] struct {
	m      *ebpf.Map
	name   string
	remedy string
}

// NewKernel wraps a map. The remedy is what to do when it is full.
func NewKernel[K comparable, V any](name string, m *ebpf.Map, remedy string) *Kernel[K, V] {
	return &Kernel[K, V]{m: m, name: name, remedy: remedy}
}

// Name implements Table.
func (t *Kernel[K, V]) Name() string { return t.name }

// Lookup implements Table.
func (t *Kernel[K, V]) Lookup(k K) (v V, ok bool, err error) {
	err = t.m.Lookup(&k, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, fmt.Errorf("look up in map %s: %w", t.name, err)
	}
	return v, true, nil
}

// Update implements Table.
func (t *Kernel[K, V]) Update(k K, v V) error {
	err := t.m.Put(&k, &v)
	if errors.Is(err, syscall.E2BIG) {
		return &FullError{Map: t.name, Max: t.m.MaxEntries(), Remedy: t.remedy}
	}
	if err != nil {
		return fmt.Errorf("update map %s: %w", t.name, err)
	}
	return nil
}

// Delete implements Table.
func (t *Kernel[K, V]) Delete(k K) error {
	if err := t.m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete from map %s: %w", t.name, err)
	}
	return nil
}

// All implements Table.
func (t *Kernel[K, V]) All() (iter.Seq2[K, V], func() error) {
	it := t.m.Iterate()
	walk := func(yield func(K, V) bool) {
		var k K
		var v V
		for it.Next(&k, &v) {
			if !yield(k, v) {
				return
			}
		}
	}
	return walk, func() error {
		if err := it.Err(); err != nil {
			return fmt.Errorf("walk map %s: %w", t.name, err)
		}
		return nil
	}
}

// Array is a Table of the kernel's whose keys are 0 to Len-1 and always there.
type Array[V any] interface {
	Name() string
	// Len is the number of elements, fixed when the map was made.
	Len() uint32
	Get(uint32) (V, error)
	// GetAll returns every element.
	GetAll() ([]V, error)
	Set(uint32, V) error
	// SetAll sets consecutive elements from the given one on.
	SetAll(uint32, []V) error
}

// KernelArray is an Array in the kernel.
type KernelArray[V any] struct {
	m    *ebpf.Map
	name string
}

// NewKernelArray wraps an array map.
func NewKernelArray[V any](name string, m *ebpf.Map) *KernelArray[V] {
	return &KernelArray[V]{m: m, name: name}
}

// Name implements Array.
func (t *KernelArray[V]) Name() string { return t.name }

// Len implements Array.
func (t *KernelArray[V]) Len() uint32 { return t.m.MaxEntries() }

// Get implements Array.
func (t *KernelArray[V]) Get(i uint32) (v V, err error) {
	if err := t.m.Lookup(&i, &v); err != nil {
		return v, fmt.Errorf("look up %d in map %s: %w", i, t.name, err)
	}
	return v, nil
}

// GetAll implements Array, in few system calls.
func (t *KernelArray[V]) GetAll() ([]V, error) {
	values := make([]V, t.Len())
	keys := make([]uint32, t.Len())
	var cursor ebpf.MapBatchCursor
	for done := 0; done < len(values); {
		n, err := t.m.BatchLookup(&cursor, keys[done:], values[done:], nil)
		done += n
		if err != nil && (!errors.Is(err, ebpf.ErrKeyNotExist) || done < len(values)) {
			return nil, fmt.Errorf("read map %s: %w", t.name, err)
		}
	}
	return values, nil
}

// Set implements Array.
func (t *KernelArray[V]) Set(i uint32, v V) error {
	if err := t.m.Put(&i, &v); err != nil {
		return fmt.Errorf("set %d in map %s: %w", i, t.name, err)
	}
	return nil
}

// SetAll implements Array, in one system call.
func (t *KernelArray[V]) SetAll(first uint32, values []V) error {
	if len(values) == 0 {
		return nil
	}
	keys := make([]uint32, len(values))
	for i := range keys {
		keys[i] = first + uint32(i)
	}
	if _, err := t.m.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("set %d and following in map %s: %w", first, t.name, err)
	}
	return nil
}
