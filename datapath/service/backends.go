// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"

	"github.com/waggle-net/waggle/datapath/maps"
)

// numbers gives each backend a number, its index in the backends map. One that
// several services share has one number. Number 0 is nobody.
type numbers struct {
	table  maps.Array[maps.Backend]
	ids    map[Address]uint32
	holder []holder            // by number
	idle   map[uint32]struct{} // numbers with an entry but no use
	next   uint32              // where the search for a free number starts
}

type holder struct {
	backend Address
	uses    int // frontends that lead to it
	taken   bool
}

// restoreNumbers reads back what an earlier daemon wrote. Until a frontend that
// leads to it is found, each backend is idle.
func restoreNumbers(table maps.Array[maps.Backend]) (*numbers, error) {
	entries, err := table.GetAll()
	if err != nil {
		return nil, err
	}
	n := &numbers{
		table:  table,
		ids:    make(map[Address]uint32),
		holder: make([]holder, len(entries)),
		idle:   make(map[uint32]struct{}),
		next:   1,
	}
	for id, b := range entries {
		if id == 0 || b.Flags&maps.BackendReady == 0 {
			continue
		}
		a := backendAddress(b)
		n.holder[id] = holder{backend: a, taken: true}
		n.idle[uint32(id)] = struct{}{}
		n.ids[a] = uint32(id)
	}
	return n, nil
}

// acquire returns a backend's number, a new one where it has none, and counts a
// use. The entry is written before anybody knows the number.
func (n *numbers) acquire(a Address) (uint32, error) {
	id, ok := n.ids[a]
	if !ok {
		if id = n.unused(); id == 0 {
			return 0, &maps.FullError{Map: n.table.Name(), Max: n.table.Len(), Remedy: "raise maps.backends"}
		}
		if err := n.table.Set(id, a.backend()); err != nil {
			return 0, err
		}
		n.ids[a] = id
		n.holder[id] = holder{backend: a, taken: true}
	}
	n.use(id)
	return id, nil
}

// use counts a use of a number that is taken.
func (n *numbers) use(id uint32) {
	n.holder[id].uses++
	delete(n.idle, id)
}

// unused finds a number that is nobody's, or 0. It goes round, so that a number
// that was just given up is the last to be used again.
func (n *numbers) unused() uint32 {
	size := uint32(len(n.holder))
	for range size {
		id := n.next
		if n.next++; n.next >= size {
			n.next = 1
		}
		if id < size && id > 0 && !n.holder[id].taken {
			return id
		}
	}
	return 0
}

// release drops a use. The entry goes in collect, when nothing reads it.
func (n *numbers) release(id uint32) {
	h := &n.holder[id]
	if h.uses--; h.uses <= 0 {
		h.uses = 0
		n.idle[id] = struct{}{}
	}
}

// collect clears the entries that nobody uses. To be called after a grace period.
func (n *numbers) collect() error {
	var errs []error
	for id := range n.idle {
		if err := n.table.Set(id, maps.Backend{}); err != nil {
			errs = append(errs, err)
			continue
		}
		// Two numbers for one backend can only come from a corrupted map; the
		// one that is known stays.
		if a := n.holder[id].backend; n.ids[a] == id {
			delete(n.ids, a)
		}
		n.holder[id] = holder{}
		delete(n.idle, id)
	}
	return errors.Join(errs...)
}
