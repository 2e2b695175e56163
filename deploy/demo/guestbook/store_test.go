// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeRedis knows the commands that a store uses. The real one is tested with the
// images.
type fakeRedis struct {
	net.Listener
	mu    sync.Mutex
	list  []string
	conns []net.Conn
	// answer, where it is set, is what each command gets; "" is no answer at all.
	answer *string
}

func newFakeRedis(t *testing.T, address string) *fakeRedis {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeRedis{Listener: l}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			served.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // a test may have done so
		f.hangUp()
		served.Wait()
	})
	return f
}

// hangUp ends all connections, as a restart does.
func (f *fakeRedis) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close() // once is enough
	}
}

func (f *fakeRedis) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, f.do(command)); err != nil {
			return
		}
	}
}

// readCommand reads an array of strings, with their lengths before them.
func readCommand(r *bufio.Reader) ([]string, error) {
	number := func(prefix string) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), prefix))
	}
	n, err := number("*")
	if err != nil {
		return nil, err
	}
	command := make([]string, n)
	for i := range command {
		size, err := number("$")
		if err != nil {
			return nil, err
		}
		content := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, content); err != nil {
			return nil, err
		}
		command[i] = string(content[:size])
	}
	return command, nil
}

func (f *fakeRedis) do(command []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answer != nil {
		return *f.answer
	}
	switch strings.Join(command[:min(2, len(command))], " ") {
	case "PING":
		return "+PONG\r\n"
	case "LPUSH " + key:
		f.list = slices.Insert(f.list, 0, command[2])
		return fmt.Sprintf(":%d\r\n", len(f.list))
	case "LTRIM " + key:
		last, err := strconv.Atoi(command[3])
		if command[2] != "0" || err != nil {
			return "-ERR value is not an integer or out of range\r\n"
		}
		f.list = f.list[:min(len(f.list), last+1)]
		return "+OK\r\n"
	case "LRANGE " + key:
		answer := fmt.Sprintf("*%d\r\n", len(f.list))
		for _, content := range f.list {
			answer += fmt.Sprintf("$%d\r\n%s\r\n", len(content), content)
		}
		return answer
	}
	return fmt.Sprintf("-ERR unknown command %q\r\n", command)
}

func testStore(t *testing.T, address string) *store {
	t.Helper()
	s := newStore(address)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			f := newFakeRedis(t, address)
			s := testStore(t, f.Addr().String())
			if got, err := s.List(t.Context()); err != nil || got == nil || len(got) != 0 {
				t.Errorf("List() of nothing = %#v, %v", got, err)
			}
			at := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
			want := make([]entry, maxEntries+3)
			for i := range want {
				e := entry{Name: "Ada", Text: fmt.Sprint("entry\n", i), Time: at.Add(time.Duration(i) * time.Second), Pod: "pod-1"}
				if err := s.Add(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				want[len(want)-1-i] = e
			}
			got, err := s.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[:maxEntries], got); diff != "" {
				t.Errorf("entries: -want +got:\n%s", diff)
			}
		})
	}
}

// A restart of Redis ends connections that the store keeps, and costs no request.
func TestStoreOutlivesConnections(t *testing.T) {
	f := newFakeRedis(t, "127.0.0.1:0")
	s := testStore(t, f.Addr().String())
	for range 3 {
		if err := s.Add(t.Context(), entry{Text: "x"}); err != nil {
			t.Fatal(err)
		}
		f.hangUp()
	}
	if len(f.conns) != 3 {
		t.Errorf("%d connections: want one anew each time", len(f.conns))
	}
}

// What people put into the list by hand is shown as it is.
func TestStoreShowsForeignEntries(t *testing.T) {
	f := newFakeRedis(t, "127.0.0.1:0")
	f.list = []string{"hello", "\xff", `{"text":"ours"}`}
	got, err := testStore(t, f.Addr().String()).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]entry{{Text: "hello"}, {Text: "\uFFFD"}, {Text: "ours"}}, got); diff != "" {
		t.Errorf("entries: -want +got:\n%s", diff)
	}
}

func TestStoreFails(t *testing.T) {
	for name, tt := range map[string]struct{ answer, want string }{
		"loading":  {"-LOADING Redis is loading the dataset in memory\r\n", "ask redis: LOADING Redis is loading"},
		"full":     {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "ask redis: OOM command not allowed"},
		"no redis": {"HTTP/1.1 400 Bad Request\r\n", "ask redis: redigo: unexpected response line"},
		"cut":      {"$100\r\nx", "ask redis: "},
		"silent":   {"", "ask redis: no answer within 3s"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeRedis(t, "127.0.0.1:0")
			f.answer = &tt.answer
			s := testStore(t, f.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := s.List(ctx)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("List() error = %v, want %q", err, tt.want)
			}
			if err := s.Add(ctx, entry{Text: "x"}); err == nil {
				t.Error("Add() kept it")
			}
		})
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := testStore(t, l.Addr().String()).List(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("List() without Redis: %v", err)
	}
}
