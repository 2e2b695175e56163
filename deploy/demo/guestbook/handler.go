// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// maxBody is more than the longest entry takes, however it is encoded, in bytes.
const maxBody = 16 << 10

// entryStore keeps entries.
type entryStore interface {
	// Add puts an entry before all others.
	Add(ctx context.Context, e entry) error
	// List returns the newest, the newest first, never nil.
	List(ctx context.Context) ([]entry, error)
}

// replica is who answers.
type replica struct {
	Pod  string   `json:"pod"`
	Node string   `json:"node,omitempty"`
	IPs  []string `json:"ips,omitempty"`
}

// handler answers requests.
type handler struct {
	log      *slog.Logger
	self     replica
	entries  entryStore
	mux      http.Handler
	draining atomic.Bool
}

func newHandler(log *slog.Logger, self replica, entries entryStore) *handler {
	h := &handler{log: log, self: self, entries: entries}
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", h.page)
	m.HandleFunc("POST /{$}", h.form)
	m.HandleFunc("GET /api/entries", h.list)
	m.HandleFunc("POST /api/entries", h.add)
	m.HandleFunc("GET /api/whoami", h.whoami)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", h.ready)
	// A page elsewhere cannot make its visitors write here.
	h.mux = http.NewCrossOriginProtection().Handler(m)
	return h
}

// ServeHTTP answers, and logs what it answered.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if h.draining.Load() {
		// Who keeps a connection is to make its next elsewhere.
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	answer := &recorder{ResponseWriter: w, status: http.StatusOK}
	h.mux.ServeHTTP(answer, r)
	level := slog.LevelInfo
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		level = slog.LevelDebug // they are asked all the time
	}
	h.log.Log(r.Context(), level, "answered", "method", r.Method, "path", r.URL.Path, "status", answer.status,
		"client", r.RemoteAddr, "took", time.Since(start).String())
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if h.draining.Load() {
		http.Error(w, "ending", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (h *handler) whoami(w http.ResponseWriter, r *http.Request) {
	h.answer(w, http.StatusOK, struct {
		replica
		Client string `json:"client"` // address and port, as seen here
	}{h.self, r.RemoteAddr})
}

func (h *handler) list(w http.ResponseWriter, r *http.Request) {
	entries, err := h.entries.List(r.Context())
	if err != nil {
		h.fail(w, err)
		return
	}
	h.answer(w, http.StatusOK, entries)
}

func (h *handler) add(w http.ResponseWriter, r *http.Request) {
	e, err := decode(r.Body)
	if err == nil {
		e, err = h.keep(r.Context(), e)
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	h.answer(w, http.StatusCreated, e)
}

// decode reads an entry of JSON, which Go would repair where it is not UTF-8.
func decode(body io.Reader) (entry, error) {
	content, err := io.ReadAll(body)
	if err != nil {
		return entry{}, err
	}
	if !utf8.Valid(content) {
		return entry{}, invalidError("the request is not valid UTF-8: send it in that encoding")
	}
	var in struct{ Name, Text string }
	if err := json.Unmarshal(content, &in); err != nil {
		return entry{}, invalidError(`the request is no entry, such as {"name": "Ada", "text": "hello"}: ` + err.Error())
	}
	return newEntry(in.Name, in.Text)
}

// keep signs an entry and keeps it.
func (h *handler) keep(ctx context.Context, e entry) (entry, error) {
	e.Time, e.Pod = time.Now().UTC().Truncate(time.Second), h.self.Pod
	return e, h.entries.Add(ctx, e)
}

func (h *handler) fail(w http.ResponseWriter, err error) {
	h.answer(w, h.status(err), map[string]string{"error": err.Error()})
}

// status is the one of HTTP for an error: the visitor's fault, or Redis'.
func (h *handler) status(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	if _, ok := errors.AsType[invalidError](err); ok {
		return http.StatusBadRequest
	}
	h.log.Warn("cannot read or keep entries", "err", err)
	return http.StatusServiceUnavailable
}

func (h *handler) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.log.Warn("cannot answer", "err", err) // such as a client that is gone
	}
}
