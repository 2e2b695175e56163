// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// model is the allocator as one would explain it: a list of all addresses and
// what happened to each.
type model struct {
	rest     time.Duration
	all      []netip.Addr
	used     map[netip.Addr]bool
	released []released // in order of release
}

// next is what the allocator must answer: an address, or how long to wait, or
// neither when all are in use.
func (m *model) next(now time.Duration) (netip.Addr, time.Duration) {
	for _, a := range m.all {
		wasReleased := slices.ContainsFunc(m.released, func(r released) bool { return r.addr == a })
		if !m.used[a] && !wasReleased {
			return a, 0
		}
	}
	if len(m.released) == 0 {
		return netip.Addr{}, 0
	}
	if wait := m.released[0].at + m.rest - now; wait > 0 {
		return netip.Addr{}, wait
	}
	return m.released[0].addr, 0
}

// restart builds a pool anew from what a daemon would have written down.
func (m *model) restart(t *testing.T, p *Pool) *Pool {
	n, err := New(p.prefix, p.rest)
	if err != nil {
		t.Fatal(err)
	}
	for a := range m.used {
		n.Take(a)
	}
	for _, r := range m.released {
		n.Release(r.addr, r.at)
	}
	return n
}

func FuzzPool(f *testing.F) {
	f.Add(uint8(0), []byte{0, 0, 0, 1, 2, 0, 3, 0})
	f.Add(uint8(1), []byte{0, 0, 1, 1, 3, 2, 2, 2, 0, 0, 0})
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		ops := make([]byte, 300)
		for j := range ops {
			ops[j] = byte(rnd.Uint32())
		}
		f.Add(uint8(i), ops)
	}
	f.Fuzz(func(t *testing.T, kind uint8, ops []byte) { runModel(t, kind, ops) })
}

func runModel(t *testing.T, kind uint8, ops []byte) {
	prefix := netip.MustParsePrefix([]string{"10.0.0.0/30", "10.0.0.0/28", "2001:db8::/126", "2001:db8::/124"}[kind%4])
	rest := time.Duration(kind>>2%4) * time.Second
	p, err := New(prefix, rest)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{rest: rest, used: map[netip.Addr]bool{}}
	first, last := bounds(prefix)
	for a := first; a.Compare(last) <= 0; a = a.Next() {
		m.all = append(m.all, a)
	}
	var order []netip.Addr // in use, by age
	var now time.Duration
	for _, op := range ops {
		now++
		switch arg := int(op >> 2); op & 3 {
		case 0:
			want, wait := m.next(now)
			got, err := p.Next(now, nil)
			var resting *RestingError
			switch {
			case got != want:
				t.Fatalf("got %v, want %v", got, want)
			case want.IsValid():
				p.Take(got)
				m.used[got] = true
				m.released = slices.DeleteFunc(m.released, func(r released) bool { return r.addr == got })
				order = append(order, got)
			case wait > 0:
				if !errors.As(err, &resting) || resting.Wait != wait {
					t.Fatalf("error %v, want a wait of %s", err, wait)
				}
			case !errors.Is(err, ErrExhausted):
				t.Fatalf("error %v, want exhausted", err)
			}
		case 1:
			if len(order) > 0 {
				i := arg % len(order)
				a := order[i]
				order = slices.Delete(order, i, i+1)
				p.Release(a, now)
				delete(m.used, a)
				m.released = append(m.released, released{a, now})
			}
		case 2:
			now += time.Duration(arg) * 100 * time.Millisecond
		case 3:
			p = m.restart(t, p)
		}
		if p.Used() != len(m.used) || p.Free() != len(m.released) {
			t.Fatalf("used %d free %d, want %d %d", p.Used(), p.Free(), len(m.used), len(m.released))
		}
	}
}
