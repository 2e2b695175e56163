// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener within the process, so that a test's clock is its own.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// answer is what matters of one: its status, and whether its connection ends with it.
type answer struct {
	status int
	last   bool
}

// get sends a request over a connection that it keeps.
func get(t *testing.T, c net.Conn, path string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(c); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Close}
}

func mustDial(t *testing.T, p *pipes) net.Conn {
	t.Helper()
	c, err := p.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the server may have closed it
	return c
}

const drain = 5 * time.Second

func serve(t *testing.T, entries entryStore, patience time.Duration) (l *pipes, end context.CancelFunc, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := newHandler(slog.New(slog.DiscardHandler), replica{Pod: "pod-1"}, entries)
	s := &server{handler: h, log: h.log, drain: drain, patience: patience}
	l = newPipes()
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l) }()
	return l, cancel, done
}

// TestDrain follows a replica from the signal to its end.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, end, ended := serve(t, &memory{}, time.Second)
		kept := mustDial(t, l)
		for path, want := range map[string]answer{"/readyz": {200, false}, "/": {200, false}} {
			if got := get(t, kept, path); got != want {
				t.Errorf("%s: %+v, want %+v", path, got, want)
			}
		}
		end()
		// To the last moment: who has not learned yet that this one ends is served, on
		// connections old and new, and is made to come back elsewhere.
		<-time.After(drain - time.Nanosecond)
		for path, want := range map[string]answer{"/readyz": {503, true}, "/healthz": {200, true}, "/": {200, true}} {
			if got := get(t, mustDial(t, l), path); got != want {
				t.Errorf("%s while draining: %+v, want %+v", path, got, want)
			}
		}
		if got, want := get(t, kept, "/"), (answer{200, true}); got != want {
			t.Errorf("on a connection of before: %+v, want %+v", got, want)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve() = %v", err)
		}
		if _, err := l.dial(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// slow is a store that takes its time.
type slow struct {
	memory
	takes time.Duration
}

func (s *slow) List(ctx context.Context) ([]entry, error) {
	select {
	case <-time.After(s.takes):
		return s.memory.List(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A request that is under way at the end is answered, if that takes no longer than the
// server's patience; without patience, the error says so.
func TestEndWaitsForRequests(t *testing.T) {
	for name, tt := range map[string]struct {
		patience time.Duration
		err      string
	}{
		"patient":   {10 * time.Second, ""},
		"impatient": {time.Second, "end requests under way: context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, end, ended := serve(t, &slow{takes: drain + 5*time.Second}, tt.patience)
				c := mustDial(t, l)
				end()
				if got, want := get(t, c, "/api/entries"), (answer{200, true}); got != want {
					t.Errorf("the request under way: %+v, want %+v", got, want)
				}
				err := <-ended
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("serve() = %v, want %q", err, tt.err)
				}
			})
		})
	}
}

func TestServeReportsItsListener(t *testing.T) {
	l := newPipes()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h := testHandler(t, &memory{})
	s := &server{handler: h, log: h.log}
	if err := s.serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve() = %v", err)
	}
}
