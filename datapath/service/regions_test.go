// SPDX-License-Identifier: Apache-2.0

package service

import (
	"slices"
	"testing"
)

func TestRegions(t *testing.T) {
	r := newRegions(10, []extent{{2, 2}, {4, 1}, {9, 1}})
	if want := []extent{{0, 2}, {5, 4}}; !slices.Equal(r.free, want) {
		t.Fatalf("free is %v, want %v", r.free, want)
	}
	if first, err := r.take(3); err != nil || first != 5 {
		t.Errorf("3 slots start at %d, %v", first, err)
	}
	if _, err := r.take(3); err == nil {
		t.Error("3 slots fit where only 2 are in a row")
	}
	r.give(extent{2, 3})
	r.give(extent{9, 1})
	r.give(extent{5, 3})
	if want := []extent{{0, 10}}; !slices.Equal(r.free, want) {
		t.Errorf("free is %v, want %v", r.free, want)
	}
}

// FuzzRegions compares with a slice of flags: no slot is handed out twice or
// lost, and free runs are whole.
func FuzzRegions(f *testing.F) {
	f.Add([]byte{3, 4, 0x80, 5, 0x81})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const size = 64
		r := newRegions(size, nil)
		var taken []extent
		used := make([]bool, size)
		for _, op := range ops {
			if op&0x80 != 0 && len(taken) > 0 {
				i := int(op&0x7f) % len(taken)
				e := taken[i]
				taken = slices.Delete(taken, i, i+1)
				for s := e.first; s < e.end(); s++ {
					used[s] = false
				}
				r.give(e)
				continue
			}
			count := uint32(op&0x0f) + 1
			first, err := r.take(count)
			if err != nil {
				continue
			}
			for s := first; s < first+count; s++ {
				if used[s] {
					t.Fatalf("slot %d was handed out twice", s)
				}
				used[s] = true
			}
			taken = append(taken, extent{first, count})
		}
		var want []extent
		for s := range uint32(size) {
			switch {
			case used[s]:
			case len(want) > 0 && want[len(want)-1].end() == s:
				want[len(want)-1].count++
			default:
				want = append(want, extent{s, 1})
			}
		}
		if !slices.Equal(r.free, want) {
			t.Fatalf("free is %v, want %v", r.free, want)
		}
		if again := newRegions(size, taken); !slices.Equal(again.free, want) {
			t.Fatalf("free after a restart is %v, want %v", again.free, want)
		}
	})
}
