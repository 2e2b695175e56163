// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Serve answers on the Unix socket at path until ctx ends, and then returns nil:
//
//	GET /v1/status    the status, as JSON
//	GET /v1/healthz   200 if the daemon is ready, 503 if it is not
//
// Only the socket's owner may connect. A socket that a dead daemon left behind
// is replaced; one that is answered on is not.
func Serve(ctx context.Context, path string, p Provider, log *slog.Logger) error {
	l, err := listen(ctx, path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	server := &http.Server{
		Handler:           handler(p, log),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() {
		// Answers under way are short; whoever reads one slowly is cut off.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}

// listen makes the socket, with its permissions from the first moment on.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// bind(2) gives the file the mode of the socket: a chmod after it
		// would leave a moment in which anybody can connect.
		var err error
		if cerr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	}}
	return config.Listen(ctx, "unix", path)
}

// removeStale removes a socket that nobody listens on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("something that is not a socket is there: remove it")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another waggled answers there: stop it first, or give this one another --run-dir")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
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
	mux.HandleFunc("GET /v1/healthz", func(w http.ResponseWriter, r *http.Request) {
		s, err := p.Status(r.Context())
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case !s.Ready:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "not ready")
			for _, problem := range s.Problems {
				fmt.Fprintf(w, "%s: %s\n", problem.Component, problem.Message)
			}
		default:
			fmt.Fprintln(w, "ok")
		}
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
