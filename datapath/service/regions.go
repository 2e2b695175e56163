// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"slices"
)

// errNoRegion says that no gap is large enough.
var errNoRegion = errors.New("no room for a region of slots")

// extent is a run of slots.
type extent struct{ first, count uint32 }

func (e extent) end() uint32 { return e.first + e.count }

// regions hands out runs of slots, first fit. Its zero value has none.
type regions struct {
	free []extent // in order, never adjacent
}

// newRegions manages the slots that are in none of the used extents.
func newRegions(size uint32, used []extent) *regions {
	r := &regions{free: []extent{{0, size}}}
	for _, u := range used {
		r.reserve(u)
	}
	return r
}

// take returns the first of count consecutive slots.
func (r *regions) take(count uint32) (uint32, error) {
	for i, e := range r.free {
		if e.count < count {
			continue
		}
		if e.count == count {
			r.free = slices.Delete(r.free, i, i+1)
		} else {
			r.free[i] = extent{e.first + count, e.count - count}
		}
		return e.first, nil
	}
	return 0, errNoRegion
}

// give puts slots back and joins them with their neighbours.
func (r *regions) give(e extent) {
	if e.count == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(r.free, e.first, func(f extent, first uint32) int {
		return int(int64(f.first) - int64(first))
	})
	r.free = slices.Insert(r.free, i, e)
	if i+1 < len(r.free) && r.free[i].end() == r.free[i+1].first {
		r.free[i].count += r.free[i+1].count
		r.free = slices.Delete(r.free, i+1, i+2)
	}
	if i > 0 && r.free[i-1].end() == r.free[i].first {
		r.free[i-1].count += r.free[i].count
		r.free = slices.Delete(r.free, i, i+1)
	}
}

// reserve takes out what is in use, as far as it is not out already.
func (r *regions) reserve(u extent) {
	var out []extent
	for _, f := range r.free {
		if u.end() <= f.first || f.end() <= u.first {
			out = append(out, f)
			continue
		}
		if f.first < u.first {
			out = append(out, extent{f.first, u.first - f.first})
		}
		if u.end() < f.end() {
			out = append(out, extent{u.end(), f.end() - u.end()})
		}
	}
	r.free = out
}
