// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/waggle-net/waggle/internal/unixhttp"
)

// Serve answers on the Unix socket at path until ctx ends, and then returns nil:
//
//	GET /v1/status    the status, as JSON
//	GET /v1/healthz   200 if the daemon is ready, 503 if it is not
//
// Only the socket's owner may connect. A socket that a dead daemon left behind
// is replaced; one that is answered on is not.
func Serve(ctx context.Context, path string, p Provider, log *slog.Logger) error {
	l, err := unixhttp.Listen(ctx, path)
	switch {
	case errors.Is(err, unixhttp.ErrTaken):
		return fmt.Errorf("listen on %s: another waggled answers there: stop it first, or give this one another --run-dir", path)
	case err != nil:
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	return unixhttp.Serve(ctx, l, handler(p, log), log)
}

func handler(p Provider, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		s, err := p.Status(r.Context())
		if err != nil {
			log.Error("status", "error", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.normalize()
		w.Header().Set("Content-Type", "application/json")
		if err := WriteJSON(w, s); err != nil {
			log.Debug("write status", "error", err) // the client went away
		}
	})
	mux.HandleFunc("GET /v1/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// WriteJSON writes a status as indented JSON.
func WriteJSON(w io.Writer, s *Status) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(s)
}
