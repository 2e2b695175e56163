// SPDX-License-Identifier: Apache-2.0

// Package supervise starts processes and keeps them running: the small process
// that waggle-kube is, over containerd, control plane, node and daemon.
//
//	Acquire -> Lock -> New(children) -> Run:  runner ---- Launch -> child
//	                                          runner ---- Launch -> child ...
//
// Each child has a runner, a goroutine that waits for what the child depends on,
// adopts or starts its process, awaits its readiness, and starts it again when it
// ends. Children outlive a supervisor that is killed; the next one adopts those
// that are what it would start. The record of a process (layout.ProcessFile), its
// start time and a pidfd make sure that no other process is ever taken for it.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"k8s.io/utils/clock"

	"github.com/waggle-net/waggle/internal/unixhttp"
)

// socketName is whose layout.Socket the supervisor answers on.
const socketName = "supervisor"

// Supervisor looks after children. Make one with New.
type Supervisor struct {
	lock    *Lock
	log     *slog.Logger
	runners []*runner
	pid     int
	started time.Time

	changed  chan struct{} // holds one if the status has changed since it was told
	notify   func(state string)
	rotation rotation
	// Logs grow without telling anybody: they are looked at this often.
	rotateEvery time.Duration
}

// New checks the children. Main must call Launch first.
func New(lock *Lock, children []Child, log *slog.Logger) (*Supervisor, error) {
	return newSupervisor(lock, children, clock.RealClock{}, log)
}

func newSupervisor(lock *Lock, children []Child, clk clock.Clock, log *slog.Logger) (*Supervisor, error) {
	children, err := complete(children)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		lock: lock, log: log, pid: os.Getpid(), started: clk.Now(),
		changed:     make(chan struct{}, 1),
		notify:      notifySystemd(log),
		rotation:    rotation{size: 20 << 20, keep: 3},
		rotateEvery: 10 * time.Second,
	}
	byName := make(map[string]*runner)
	for _, c := range children {
		r := &runner{
			Child: c, lock: lock, clock: clk, log: log.With("child", c.Name), changed: s.change,
			ready: make(chan struct{}), ended: make(chan struct{}), warned: make(map[string]bool),
			status: ChildStatus{Name: c.Name, State: Waiting, Since: s.started, LogFile: c.LogFile},
		}
		byName[c.Name] = r
		s.runners = append(s.runners, r)
	}
	for _, r := range s.runners {
		for _, name := range r.After {
			r.dependencies = append(r.dependencies, byName[name])
			byName[name].dependents = append(byName[name].dependents, r)
		}
	}
	return s, nil
}

// Run starts and keeps the children until ctx ends, then stops them, those first
// that depend on others, and returns nil.
func (s *Supervisor) Run(ctx context.Context) error {
	path := s.lock.layout.Socket(socketName)
	socket, err := unixhttp.Listen(ctx, path)
	switch {
	case errors.Is(err, unixhttp.ErrTaken): // by one that has another data folder
		return fmt.Errorf("listen on %s: another waggle-kube answers there: stop it first, or give this one another than %s", path, s.lock.layout.Run)
	case err != nil:
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	// It answers until the last child has ended.
	serving, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	served := make(chan error, 1)
	go func() { served <- unixhttp.Serve(serving, socket, s.handler(s.log), s.log) }()

	if err := s.stopStrangers(); err != nil {
		s.log.Error("stopping processes that are not configured any more failed", "error", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var running sync.WaitGroup
		for _, r := range s.runners {
			running.Go(func() { r.run(ctx) })
		}
		running.Wait()
	}()
	s.attend(ctx, ended)
	hangUp()
	return <-served
}

// attend tells systemd what happens, and rotates logs, until all children have ended.
func (s *Supervisor) attend(ctx context.Context, ended <-chan struct{}) {
	rotate := time.NewTicker(s.rotateEvery)
	defer rotate.Stop()
	stop := ctx.Done()
	s.change()
	var said string
	ready := false
	for {
		select {
		case <-ended:
			return
		case <-stop:
			stop = nil
			s.notify(daemon.SdNotifyStopping)
		case <-s.changed:
			if text := s.Status().summary(); text != said {
				said = text
				s.notify("STATUS=" + text)
			}
			if !ready && stop != nil && s.allWereReady() {
				ready = true
				s.notify(daemon.SdNotifyReady)
			}
		case <-rotate.C:
			s.rotateLogs()
		}
	}
}

func (s *Supervisor) change() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Supervisor) allWereReady() bool {
	return !slices.ContainsFunc(s.runners, func(r *runner) bool {
		select {
		case <-r.ready:
			return false
		default:
			return true
		}
	})
}

func (s *Supervisor) rotateLogs() {
	for _, r := range s.runners {
		if err := s.rotation.rotate(r.LogFile); err != nil {
			r.log.Error("log is not rotated", "error", err)
		}
	}
}

// stopStrangers ends processes that a former supervisor started and that this one
// has no child for.
func (s *Supervisor) stopStrangers() error {
	records, err := readRecords(s.lock.layout)
	strangers := slices.DeleteFunc(records, func(rec *record) bool {
		return slices.ContainsFunc(s.runners, func(r *runner) bool { return r.Name == rec.Name })
	})
	return errors.Join(err, stopRecorded(s.lock.layout, strangers, s.log))
}

// notifySystemd speaks for the unit that the supervisor is, if it is one.
func notifySystemd(log *slog.Logger) func(string) {
	return func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Debug("notify systemd", "error", err)
		}
	}
}
