// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/waggle-net/waggle/internal/unixhttp"
)

// path of the report, on the socket.
const path = "/v1/health"

// Serve answers on the Unix socket, to its owner alone, until ctx ends, and then
// returns nil:
//
//	GET /v1/health    the report as JSON; 200 if every component is ready, else 503
func (b *Board) Serve(ctx context.Context, socket string, log *slog.Logger) error {
	l, err := unixhttp.Listen(ctx, socket)
	if err != nil {
		return fmt.Errorf("serve health on %s: %w", socket, err)
	}
	return unixhttp.Serve(ctx, l, b.handler(), log)
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
	transport := unixhttp.Transport(socket)
	defer transport.CloseIdleConnections()
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
