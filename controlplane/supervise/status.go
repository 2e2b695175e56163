// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/internal/unixhttp"
)

// State is what a child is doing.
type State string

// The states of a child.
const (
	Waiting  State = "waiting"  // for what it depends on
	Starting State = "starting" // runs, is not ready
	Ready    State = "ready"
	Backoff  State = "backoff" // has ended, is started again at NextStart
	Stopping State = "stopping"
	Stopped  State = "stopped"
)

// Status is what a supervisor says about itself and its children.
type Status struct {
	PID      int           `json:"pid"`
	Started  time.Time     `json:"started"`
	Ready    bool          `json:"ready"` // all children are
	Children []ChildStatus `json:"children"`
}

// ChildStatus is what it says about a child.
type ChildStatus struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Since    time.Time `json:"since"` // when it came to this state
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`  // the process
	Adopted  bool      `json:"adopted,omitempty"` // the process is that of a former supervisor
	Restarts int       `json:"restarts"`
	// NextStart is set in Backoff.
	NextStart time.Time `json:"nextStart,omitzero"`
	// LastExit is how the last process ended: "exit status 1", "signal: killed".
	LastExit     string    `json:"lastExit,omitempty"`
	LastExitTime time.Time `json:"lastExitTime,omitzero"`
	// LastError is why it is not ready, or why it could not be started.
	LastError string `json:"lastError,omitempty"`
	LogFile   string `json:"logFile"`
}

func (s *ChildStatus) setState(state State, now time.Time) {
	if s.State != state {
		s.State, s.Since = state, now
	}
}

// ended clears what was about the process.
func (s *ChildStatus) ended(exit string, now time.Time) {
	s.PID, s.Started, s.Adopted = 0, time.Time{}, false
	s.LastExit, s.LastExitTime = exit, now
}

// Status describes the children in the order in which they were given.
func (s *Supervisor) Status() *Status {
	out := &Status{PID: s.pid, Started: s.started, Ready: true, Children: []ChildStatus{}}
	for _, r := range s.runners {
		r.mu.Lock()
		c := r.status
		r.mu.Unlock()
		out.Ready = out.Ready && c.State == Ready
		out.Children = append(out.Children, c)
	}
	return out
}

// summary is a Status in a line, for systemctl status.
func (s *Status) summary() string {
	var not []string
	for _, c := range s.Children {
		if c.State == Ready {
			continue
		}
		text := c.Name + " is " + string(c.State)
		if c.LastError != "" {
			line, _, _ := strings.Cut(c.LastError, "\n")
			text += " (" + line + ")"
		}
		not = append(not, text)
	}
	if len(not) == 0 {
		return "ready"
	}
	return strings.Join(not, ", ")
}

// handler answers on the supervisor's socket:
//
//	GET /v1/status    the status, as JSON
//	GET /v1/healthz   200 if all children are ready, 503 if not
func (s *Supervisor) handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(s.Status()); err != nil {
			log.Debug("write status", "error", err) // the client went away
		}
	})
	mux.HandleFunc("GET /v1/healthz", func(w http.ResponseWriter, _ *http.Request) {
		status := s.Status()
		if !status.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, status.summary())
	})
	return mux
}

// maxAnswer bounds what a client reads.
const maxAnswer = 1 << 20

// ErrNotRunning says that no supervisor answers on the socket.
var ErrNotRunning = errors.New("is it running? start it with `waggle-kube server`, or see `systemctl status waggle-kube`")

// ReadStatus asks the supervisor of a node. The error is ErrNotRunning where
// nobody answers.
func ReadStatus(ctx context.Context, l layout.Layout) (*Status, error) {
	socket := l.Socket(socketName)
	transport := unixhttp.Transport(socket)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://supervisor/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("waggle-kube does not answer at %s: %w", socket, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("connect to waggle-kube at %s: permission denied: run this as root", socket)
	case err != nil:
		return nil, fmt.Errorf("ask waggle-kube at %s: %w", socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask waggle-kube at %s: %w", socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("waggle-kube at %s answers %s: %s", socket, resp.Status, strings.TrimSpace(string(body)))
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("read status from %s: %w", socket, err)
	}
	return &s, nil
}
