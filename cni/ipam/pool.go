// SPDX-License-Identifier: Apache-2.0

// Package ipam decides which address a pod gets. It is pure: it reads no clock
// and writes nothing down. The caller passes the time in, as a duration since
// any moment that does not move, and records each decision before it takes it.
//
// An address that was never used comes first, in order. Then comes the one that
// has been free longest, once it has rested for the minimum time: whoever still
// believes in the old holder (a client's connection, a cache) finds nobody
// rather than somebody else.
package ipam

import (
	"container/list"
	"net/netip"
	"time"
)

// maxReleased bounds how many released addresses are remembered before they
// are reused ahead of new ones. Without a bound, an IPv6 prefix would never
// come to reuse and its records would grow with every pod there ever was.
const maxReleased = 1 << 16

// Pool allocates from one prefix. It is not safe for concurrent use.
type Pool struct {
	prefix      netip.Prefix
	rest        time.Duration
	last        netip.Addr
	used        map[netip.Addr]struct{}
	free        *list.List // of released, longest free first
	freeAt      map[netip.Addr]*list.Element
	maxReleased int
	// cursor parts the prefix: everything below it is in use or in free.
	cursor netip.Addr
}

type released struct {
	addr netip.Addr
	at   time.Duration
}

// New gives an allocator for prefix whose released addresses rest before they
// are given out again.
func New(prefix netip.Prefix, rest time.Duration) (*Pool, error) {
	if err := validate(prefix); err != nil {
		return nil, err
	}
	first, last := bounds(prefix)
	return &Pool{
		prefix: prefix, rest: rest, cursor: first, last: last,
		used:        map[netip.Addr]struct{}{},
		free:        list.New(),
		freeAt:      map[netip.Addr]*list.Element{},
		maxReleased: maxReleased,
	}, nil
}

// Prefix is what the pool allocates from.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Used counts the addresses that pods have.
func (p *Pool) Used() int { return len(p.used) }

// Free counts the addresses that pods had: others were never given.
func (p *Pool) Free() int { return p.free.Len() }

// Next says which address to give out at now, and does not give it out: that
// is Take, after the caller has written it down. Held, if not nil, reports
// released addresses that something outside still refers to; they are passed
// over. Errors are ErrExhausted and *RestingError.
func (p *Pool) Next(now time.Duration, held func(netip.Addr) bool) (netip.Addr, error) {
	full := p.free.Len() >= p.maxReleased
	if !full {
		if a := p.fresh(); a.IsValid() {
			return a, nil
		}
	}
	resting := &RestingError{Free: p.free.Len()}
	for e := p.free.Front(); e != nil; e = e.Next() {
		r := e.Value.(released)
		if wait := r.at + p.rest - now; wait > 0 {
			resting.Wait = wait
			break // those behind it were released later
		}
		if held == nil || !held(r.addr) {
			return r.addr, nil
		}
		resting.Held++
	}
	if full {
		if a := p.fresh(); a.IsValid() {
			return a, nil
		}
	}
	if resting.Free == 0 {
		return netip.Addr{}, ErrExhausted
	}
	return netip.Addr{}, resting
}

// fresh gives the first address that was never used, or the zero address. Every
// address is passed once in a pool's life.
func (p *Pool) fresh() netip.Addr {
	for p.cursor.IsValid() && p.cursor.Compare(p.last) <= 0 {
		_, used := p.used[p.cursor]
		_, free := p.freeAt[p.cursor]
		if !used && !free {
			return p.cursor
		}
		p.cursor = p.cursor.Next()
	}
	return netip.Addr{}
}

// Take marks an address as in use: the one that Next gave, or one that a
// restarted daemon finds in its records. Addresses of other prefixes are kept
// too, so that Release works alike for them, and never given out.
func (p *Pool) Take(a netip.Addr) {
	if e, ok := p.freeAt[a]; ok {
		p.free.Remove(e)
		delete(p.freeAt, a)
	}
	p.used[a] = struct{}{}
}

// Release marks an address as free since at. Addresses outside of the prefix
// are forgotten.
func (p *Pool) Release(a netip.Addr, at time.Duration) {
	delete(p.used, a)
	if _, ok := p.freeAt[a]; ok || !p.Allocates(a) {
		return
	}
	// The queue's order is its meaning, so time never runs back in it.
	if back := p.free.Back(); back != nil {
		at = max(at, back.Value.(released).at)
	}
	p.freeAt[a] = p.free.PushBack(released{addr: a, at: at})
}

// Allocates reports whether the pool may give out an address at all.
func (p *Pool) Allocates(a netip.Addr) bool {
	first, last := bounds(p.prefix)
	return a.BitLen() == first.BitLen() && first.Compare(a) <= 0 && a.Compare(last) <= 0
}
