// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// path of the report, on the socket.
const path = "/v1/health"

// Serve answers on the Unix socket until ctx ends, and then returns nil:
//
//	GET /v1/health    the report as JSON; 200 if every component is ready, else 503
//
// The socket of a process that died is replaced: whoever serves has made sure that
// it is the only one.
func (b *Board) Serve(ctx context.Context, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("serve health: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	server := &http.Server{Handler: b.handler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health on %s: %w", socket, err)
	}
	return nil
}

func (b *Board) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		report := b.Report()
		w.Header().Set("Content-Type", "application/json")
		if !report.Ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// A reader that went away is its own affair.
		_ = json.NewEncoder(w).Encode(report)
	})
	return m
}

// Fetch asks the process behind a socket how it is.
func Fetch(ctx context.Context, socket string) (*Report, error) {
	var dialer net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unix"+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask for health: %w", err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask for health: %w", err)
	}
	defer resp.Body.Close()
	var r Report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return nil, fmt.Errorf("ask for health on %s: %w", socket, err)
	}
	return &r, nil
}

// Await is a check for readiness of the process behind a socket: nil once every
// component is ready, and otherwise what it waits for.
func Await(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := Fetch(ctx, socket)
		if err != nil {
			return err
		}
		if c := r.Pending(); c != nil {
			if c.Message != "" {
				return fmt.Errorf("%s is %s: %s", c.Name, c.State, c.Message)
			}
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		return nil
	}
}
