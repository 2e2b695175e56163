// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// servers is the list of API servers, and which of them answers.
type servers struct {
	log        *slog.Logger
	configured []*server // does not change, and is not empty

	mu      sync.Mutex
	known   []*server // configured, then learned; no two of one key
	current *server   // of known: requests go there first
	// Since when no request was answered; the zero time if the last one was.
	silent time.Time
	// Since when answers say that our credentials are not accepted, likewise.
	refused time.Time
}

func newServers(configured []*server, log *slog.Logger) *servers {
	return &servers{log: log, configured: configured, known: configured, current: configured[0]}
}

// replace puts learned servers in place of those learned before. What is known of
// those that stay, and which one is in use, stays.
func (l *servers) replace(learned []netip.AddrPort, source Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.known
	l.known = slices.Clone(l.configured)
	for _, e := range learned {
		s := learnedServer(e, source)
		if find(l.configured, s.key) != nil {
			continue
		}
		if same := find(before, s.key); same != nil {
			same.source = source
			s = same
		}
		l.known = append(l.known, s)
	}
	if !slices.Contains(l.known, l.current) {
		l.log.Info("API server is gone", "server", l.current.String(), "next", l.known[0].String())
		l.current = l.known[0]
	}
}

func find(list []*server, key string) *server {
	i := slices.IndexFunc(list, func(s *server) bool { return s.key == key })
	if i < 0 {
		return nil
	}
	return list[i]
}

// order is the order in which a request tries the servers: each once.
func (l *servers) order() []*server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.orderLocked()
}

func (l *servers) orderLocked() []*server {
	i := slices.Index(l.known, l.current)
	return slices.Concat(l.known[i:], l.known[:i])
}

// answered notes that a server gave a response, with whatever status.
func (l *servers) answered(s *server, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.err != nil {
		l.log.Info("API server answers again", "server", s.String())
	}
	s.err = nil
	l.silent = time.Time{}
	switch {
	case status != http.StatusUnauthorized:
		l.refused = time.Time{}
	case l.refused.IsZero():
		l.refused = time.Now()
		l.log.Warn("API server does not accept our credentials", "server", s.String())
	}
}

// failed notes that a server gave no response. Following requests go to the next
// one, unless another request has moved on already. That is logged once: an API
// server may be away for hours.
func (l *servers) failed(s *server, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent.IsZero() {
		l.silent = time.Now()
	}
	order := l.orderLocked()
	next := order[0]
	if s == l.current {
		next = order[1%len(order)]
	}
	if s.err == nil {
		l.log.Warn("API server does not answer", "server", s.String(), "error", err, "next", next.String())
	}
	s.err = err
	l.current = next
}

func (l *servers) list() []Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Server
	for _, s := range l.orderLocked() {
		out = append(out, Server{URL: s.String(), Source: s.source, InUse: s == l.current, Err: s.err})
	}
	return out
}
