// SPDX-License-Identifier: Apache-2.0

// Package server is the daemon's end of the CNI socket: it allocates addresses,
// has the datapath build and remove endpoints, and writes every step down so
// that a killed daemon goes on where it was.
//
// The order at start is Open, Endpoints (for the datapath to restore what it
// had), Recover, Serve. An endpoint's life is
//
//	allocate and write "creating" -> build -> write "ready" -> answer
//	take away -> write "released" -> answer
//
// so an address is never free while something of its endpoint is left, and
// nothing is built that is not written down.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/waggle-net/waggle/cni/pending"
	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/cni/store"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

// Datapath builds and removes endpoints. Implemented by datapath/endpoint.
type Datapath interface {
	// Add builds the endpoint inside netns and returns when the first packet
	// would meet everything. On error nothing is left.
	Add(ctx context.Context, s *endpoint.Spec, netns *os.File) error
	// Delete removes it; deleting what is absent succeeds.
	Delete(ctx context.Context, s *endpoint.Spec) error
	// Check verifies devices, addresses, routes, attachments and maps.
	Check(ctx context.Context, s *endpoint.Spec, netns *os.File) error
}

// cleanupTimeout is how long taking an endpoint away may take when nobody
// waits for it.
const cleanupTimeout = 30 * time.Second

// Server answers waggle-cni.
type Server struct {
	cfg   Config
	log   *slog.Logger
	state *state
	locks locks
	queue pending.Queue
	// unlockQueue is set from Recover until the socket listens.
	unlockQueue func()
}

// Open opens the state and changes nothing yet. It fails with ErrConfig, or
// with the store's errors if another daemon uses the state or it is unusable.
func Open(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open cni server: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("open cni server: %w", err)
	}
	st, err := store.Open(filepath.Join(cfg.RunDir, "endpoints.db"), string(boot))
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:   cfg,
		log:   cfg.Logger,
		state: &state{store: st, held: cfg.Held, now: sinceBoot},
		queue: pending.For(cfg.Socket),
	}
	strays, err := s.state.load(cfg.PodCIDRs, cfg.RestTime)
	if err != nil {
		st.Close()
		return nil, err
	}
	for _, r := range strays {
		s.log.Warn("endpoint has an address outside of the node's pod CIDRs; it keeps it until it is deleted",
			"endpoint", r.Attachment().Key(), "pod", r.Spec.PodNamespace+"/"+r.Spec.PodName, "addresses", r.Spec.Addresses)
	}
	return s, nil
}

// Endpoints gives the endpoints that were completely built, by number.
func (s *Server) Endpoints() []endpoint.Spec {
	var specs []endpoint.Spec
	for _, r := range s.state.list() {
		if r.State == store.Ready {
			specs = append(specs, r.Spec)
		}
	}
	return specs
}

// EachReady calls fn for every endpoint that is completely built, while nothing
// else happens to it. Those that are being deleted are passed over.
func (s *Server) EachReady(fn func(*endpoint.Spec)) {
	for _, r := range s.state.list() {
		a := r.Attachment()
		unlock, ok := s.locks.try(a.Key())
		if !ok {
			continue
		}
		if now, ok := s.state.get(a); ok && now.State == store.Ready {
			fn(&now.Spec)
		}
		unlock()
	}
}

// Recover finishes what was cut off: endpoints that were not completely built,
// and deletes that the plugin answered while no daemon ran. What the datapath
// refuses to delete stays written down, is logged, and is tried again by Serve.
// From Recover until Serve listens, deletes wait.
func (s *Server) Recover(ctx context.Context, dp Datapath) error {
	if s.unlockQueue == nil {
		unlock, err := s.queue.Lock()
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		s.unlockQueue = unlock
	}
	left, err := s.sweep(ctx, dp)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := s.queue.Prune(left); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return ctx.Err()
}

// sweep deletes endpoints that should not be there. It gives those that it
// could not delete.
func (s *Server) sweep(ctx context.Context, dp Datapath) (left []protocol.Attachment, err error) {
	for _, r := range s.state.list() {
		a := r.Attachment()
		unlock, ok := s.locks.try(a.Key())
		if !ok {
			continue // an operation is under way and will end well or badly by itself
		}
		err := s.sweepOne(ctx, dp, a)
		unlock()
		switch {
		case errors.Is(err, errQueue):
			return nil, err
		case err != nil:
			s.log.Error("endpoint could not be removed; trying again later", "endpoint", a.Key(), "err", err)
			left = append(left, a)
		}
	}
	return left, nil
}

// errQueue marks errors of the queue itself, as against those of one endpoint.
var errQueue = errors.New("pending deletes cannot be read")

func (s *Server) sweepOne(ctx context.Context, dp Datapath, a protocol.Attachment) error {
	r, ok := s.state.get(a)
	if !ok {
		return nil
	}
	deleted, err := s.queue.Has(a)
	if err != nil {
		return fmt.Errorf("%w: %w", errQueue, err)
	}
	if r.State == store.Ready && !deleted {
		return nil
	}
	s.log.Info("removing endpoint", "endpoint", a.Key(), "state", r.State, "deletedWhileDown", deleted)
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return s.remove(ctx, dp, r)
}

// remove takes an endpoint away: the datapath first, because from the moment
// that the address is free somebody else may have it. The attachment's lock
// must be held.
func (s *Server) remove(ctx context.Context, dp Datapath, r store.Record) error {
	a := r.Attachment()
	if err := dp.Delete(ctx, &r.Spec); err != nil {
		return datapathError("delete", a, err)
	}
	if err := s.state.release(a); err != nil {
		return stateError("delete", a, err)
	}
	if err := s.queue.Remove(a); err != nil {
		return stateError("delete", a, err)
	}
	return nil
}

// Close gives the state free. Serve must have returned.
func (s *Server) Close() error {
	if s.unlockQueue != nil {
		s.unlockQueue()
		s.unlockQueue = nil
	}
	return s.state.store.Close()
}
