// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"
)

// locks gives each attachment a lock of its own, so that its operations follow
// each other while those of others run beside them. The zero value is ready.
type locks struct {
	mu sync.Mutex
	m  map[string]*waitLock
}

type waitLock struct {
	users int           // holder and waiters
	held  chan struct{} // one token: whoever puts it in holds the lock; first come, first served
}

// lock waits for key's lock or for ctx.
func (l *locks) lock(ctx context.Context, key string) (unlock func(), err error) {
	w := l.join(key)
	select {
	case w.held <- struct{}{}:
		return func() { l.unlock(key, w) }, nil
	case <-ctx.Done():
		l.leave(key, w)
		return nil, ctx.Err()
	}
}

// try takes key's lock if nobody has it.
func (l *locks) try(key string) (unlock func(), ok bool) {
	w := l.join(key)
	select {
	case w.held <- struct{}{}:
		return func() { l.unlock(key, w) }, true
	default:
		l.leave(key, w)
		return nil, false
	}
}

func (l *locks) join(key string) *waitLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.m[key]
	if w == nil {
		w = &waitLock{held: make(chan struct{}, 1)}
		if l.m == nil {
			l.m = map[string]*waitLock{}
		}
		l.m[key] = w
	}
	w.users++
	return w
}

func (l *locks) unlock(key string, w *waitLock) {
	<-w.held
	l.leave(key, w)
}

func (l *locks) leave(key string, w *waitLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.users--; w.users == 0 {
		delete(l.m, key)
	}
}
