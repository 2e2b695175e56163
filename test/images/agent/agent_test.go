// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/await"
)

func TestHTTP(t *testing.T) {
	t.Setenv("AGENT_TEST", "x y")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	ctx, exit := context.WithCancelCause(t.Context())
	mux := newHandler(exit).mux()
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/", 200, host},
		{"GET", "/client", 200, "192.0.2.1:1234"},
		{"GET", "/env", 200, "AGENT_TEST=x y"},
		{"GET", "/healthz", 200, "ok"},
		{"POST", "/healthz", 503, "sick"},
		{"GET", "/healthz", 503, "sick"},
		{"POST", "/healthz", 200, "ok"},
		{"GET", "/nothing", 404, "not found"},
		{"GET", "/exit", 400, "code"},
		{"GET", "/exit?code=256", 400, "code"},
		{"GET", "/exit?code=3", 200, "bye"},
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.want)
		}
	}
	if got := context.Cause(ctx); !errors.Is(got, exitError(3)) {
		t.Errorf("asked to exit with %v, want 3", got)
	}
}

// TestEcho speaks to all servers over both families, and ends them.
func TestEcho(t *testing.T) {
	for _, tt := range []struct {
		network string
		serve   func(context.Context, string) error
	}{{"tcp", echoTCP}, {"udp", echoUDP}} {
		t.Run(tt.network, func(t *testing.T) {
			port := freePort(t, tt.network)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- tt.serve(ctx, ":"+port) }()
			for _, host := range []string{"127.0.0.1", "::1"} {
				await.Until(t, func() error { return echo(tt.network, net.JoinHostPort(host, port)) })
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// freePort is one that the kernel would give, which it does not do twice at once.
func freePort(t *testing.T, network string) string {
	t.Helper()
	var address net.Addr
	if network == "tcp" {
		l, err := net.Listen(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		address = l.Addr()
	} else {
		c, err := net.ListenPacket(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		address = c.LocalAddr()
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func echo(network, address string) error {
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	// A datagram that nobody was there for gets no answer.
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	sent := []byte("hello")
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return &net.OpError{Op: "echo", Net: network, Err: io.ErrUnexpectedEOF}
	}
	return nil
}

func TestServeReportsWhatItCannot(t *testing.T) {
	_, exit := context.WithCancelCause(t.Context())
	if err := newHandler(exit).serve(t.Context(), "192.0.2.1:1"); err == nil {
		t.Error("serves at an address that is not here")
	}
}

func TestServeEndsWhenAsked(t *testing.T) {
	ctx, exit := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	h := newHandler(exit)
	port := freePort(t, "tcp")
	go func() { ended <- h.serve(ctx, ":"+port) }()
	await.Until(t, func() error {
		resp, err := http.Get("http://127.0.0.1:" + port + "/exit?code=7")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}
