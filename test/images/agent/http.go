// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// patience is how long requests under way may take when the process ends.
const patience = 10 * time.Second

// handler answers HTTP.
type handler struct {
	exit  context.CancelCauseFunc
	sick  atomic.Bool
	flows flows
}

func newHandler(exit context.CancelCauseFunc) *handler { return &handler{exit: exit} }

func (h *handler) serve(ctx context.Context, address string) error {
	server := &http.Server{Handler: h.mux(), ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // gRPC
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return server.Shutdown(ctx)
}

func (h *handler) mux() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", hostname)
	m.HandleFunc("GET /client", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	m.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	m.HandleFunc("GET /healthz", h.health)
	m.HandleFunc("POST /healthz", func(w http.ResponseWriter, r *http.Request) {
		h.sick.Store(!h.sick.Load())
		h.health(w, r)
	})
	m.HandleFunc("/exit", h.quit)
	m.HandleFunc("POST /grpc.health.v1.Health/Check", h.grpcHealth)
	m.HandleFunc("GET /who", who)
	m.HandleFunc("GET /file", file)
	m.HandleFunc("GET /ask", ask)
	m.HandleFunc("GET /lookup", lookup)
	m.HandleFunc("POST /flow", h.flows.start)
	m.HandleFunc("DELETE /flow", h.flows.end)
	return m
}

func hostname(w http.ResponseWriter, _ *http.Request) {
	name, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, name)
}

// file reads all there is: those of the kernel do not say how long they are.
func file(w http.ResponseWriter, r *http.Request) {
	content, err := os.ReadFile(r.FormValue("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(content) // who asked may have gone
}

func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	if h.sick.Load() {
		http.Error(w, "sick", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (h *handler) quit(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.ParseUint(r.FormValue("code"), 10, 8)
	if err != nil {
		http.Error(w, "code must be from 0 to 255, as in /exit?code=3", http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, "bye")
	h.exit(exitError(code))
}
