// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// server is the life of an HTTP server in a pod.
type server struct {
	handler *handler
	log     *slog.Logger
	// drain is how long those who choose replicas may take to learn that this one is
	// not ready any more. Until then they send requests.
	drain time.Duration
	// patience is how long requests under way may take after that.
	patience time.Duration
}

// serve answers until ctx ends, and then until nobody asks any more.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	web := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.log.Info("draining", "for", s.drain.String())
	s.handler.draining.Store(true)
	select {
	case err := <-served:
		return err
	case <-time.After(s.drain):
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil {
		return fmt.Errorf("end requests under way: %w", err)
	}
	return nil
}
