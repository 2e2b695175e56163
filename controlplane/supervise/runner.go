// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// runner looks after one child. All but its status belongs to the goroutine of run.
type runner struct {
	Child
	lock    *Lock
	clock   clock.Clock
	log     *slog.Logger
	changed func() // called after each change of the status

	dependencies, dependents []*runner

	ready chan struct{} // closed when the child is ready for the first time
	ended chan struct{} // closed when run ends

	backoff backoff
	warned  map[string]bool
	logFrom int64 // size of the log when the process was started or adopted

	mu     sync.Mutex
	status ChildStatus
}

// run returns after ctx has ended, and then the children that depend on this one,
// and then the process.
func (r *runner) run(ctx context.Context) {
	defer close(r.ended)
	p := r.begin(ctx)
	for ctx.Err() == nil {
		if p == nil {
			p = r.start(ctx)
		}
		var lived time.Duration
		if p != nil {
			if !r.attend(ctx, p) {
				break
			}
			lived = r.clock.Since(p.since)
			p = nil
		}
		if r.backOff(ctx, lived) {
			r.update(func(s *ChildStatus) {
				s.setState(Starting, r.clock.Now())
				s.NextStart = time.Time{}
				s.Restarts++
			})
		}
	}
	r.finish(p)
}

// begin adopts the process of a former supervisor. Otherwise it returns when the
// child may be started: what it depends on is ready, and a process that differs
// from what the child is now has ended.
func (r *runner) begin(ctx context.Context) *process {
	p, current := r.find(ctx)
	if current {
		return p
	}
	r.awaitDependencies(ctx)
	if p == nil || ctx.Err() != nil {
		return p
	}
	r.log.Info("replacing, since the program or its settings have changed", "pid", p.pid)
	if err := r.stop(p); err != nil {
		r.log.Error("stopping failed", "error", err)
		select {
		case <-p.done: // it must not run twice
		case <-ctx.Done():
			return p
		}
	}
	r.forget()
	return nil
}

func (r *runner) awaitDependencies(ctx context.Context) {
	for _, d := range r.dependencies {
		select {
		case <-d.ready:
		case <-ctx.Done():
			return
		}
	}
}

// find returns the recorded process, if it runs, and whether it is what the child
// is now. It does not guess: while it cannot know, it asks again.
func (r *runner) find(ctx context.Context) (p *process, current bool) {
	for {
		p, current, err := r.recorded()
		if err == nil {
			return p, current
		}
		r.log.Error("looking for a running process failed", "error", err)
		r.update(func(s *ChildStatus) { s.LastError = err.Error() })
		if !r.backOff(ctx, 0) {
			return nil, false
		}
		r.update(func(s *ChildStatus) {
			s.setState(Waiting, r.clock.Now())
			s.NextStart, s.LastError = time.Time{}, ""
		})
	}
}

func (r *runner) recorded() (p *process, current bool, err error) {
	file := r.lock.layout.ProcessFile(r.Name)
	rec, err := readRecord(file)
	if err != nil {
		r.log.Warn("discarding a record", "error", err)
		return nil, false, os.Remove(file)
	}
	if rec == nil {
		return nil, false, nil
	}
	p, err = rec.open()
	if err != nil || p == nil {
		return nil, false, err
	}
	p.since = rec.Started
	current = r.isCurrent(rec)
	if current {
		// How to stop it may have changed.
		rec.After, rec.StopSignal, rec.StopGrace, rec.Keep = r.After, r.StopSignal, r.StopGrace, r.Keep
		if err := rec.write(file); err != nil {
			r.log.Warn("the record of the process is not brought up to date", "error", err)
		}
		r.log.Info("adopting", "pid", p.pid)
	}
	r.logFrom = size(r.LogFile)
	r.update(func(s *ChildStatus) { s.PID, s.Started, s.Adopted = p.pid, p.since, true })
	return p, current, nil
}

func (r *runner) isCurrent(rec *record) bool {
	if rec.Command != r.command() {
		return false
	}
	exe, err := executable(r.Path)
	if err != nil {
		r.log.Warn("the running process goes on, but could not be started again", "error", err)
		return true
	}
	return rec.Executable == exe
}

// start returns nil if it fails, and says so.
func (r *runner) start(ctx context.Context) *process {
	r.logFrom = size(r.LogFile)
	now := r.clock.Now()
	r.update(func(s *ChildStatus) { s.setState(Starting, now); s.Adopted = false })
	p, warnings, err := r.lock.launch(ctx, &r.Child, now)
	for _, w := range warnings {
		if !r.warned[w] {
			r.warned[w] = true
			r.log.Warn("not everything can be set", "warning", w)
		}
	}
	if err != nil {
		r.log.Error("starting failed", "error", err)
		r.update(func(s *ChildStatus) { s.LastError = err.Error() })
		return nil
	}
	r.log.Info("started", "pid", p.pid)
	r.update(func(s *ChildStatus) { s.PID, s.Started = p.pid, now })
	return p
}

// backOff waits before the next start. It returns false if ctx ends.
func (r *runner) backOff(ctx context.Context, lived time.Duration) bool {
	delay := r.backoff.next(lived)
	timer := r.clock.NewTimer(delay)
	defer timer.Stop()
	now := r.clock.Now()
	r.update(func(s *ChildStatus) { s.setState(Backoff, now); s.NextStart = now.Add(delay) })
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// finish ends the process, if there is one, after those that depend on it.
func (r *runner) finish(p *process) {
	for _, d := range r.dependents {
		<-d.ended
	}
	switch {
	case p == nil:
	case r.Keep:
		r.log.Info("left running", "pid", p.pid)
		return
	default:
		r.update(func(s *ChildStatus) { s.setState(Stopping, r.clock.Now()) })
		if err := r.stop(p); err != nil {
			r.log.Error("stopping failed", "error", err)
			return // its record stays: the next supervisor tries again
		}
		r.forget()
		r.log.Info("stopped", "pid", p.pid, "exit", p.exit)
		r.update(func(s *ChildStatus) { s.ended(p.exit, r.clock.Now()) })
	}
	r.update(func(s *ChildStatus) { s.setState(Stopped, r.clock.Now()); s.NextStart = time.Time{} })
}

func (r *runner) stop(p *process) error {
	return p.stop(r.StopSignal, r.StopGrace, r.clock, r.log)
}

// forget removes the record of a process that has ended.
func (r *runner) forget() {
	if err := removeRecord(r.lock.layout.ProcessFile(r.Name)); err != nil {
		r.log.Warn("removing a record failed", "error", err) // it is recognised as old
	}
}

func (r *runner) update(change func(*ChildStatus)) {
	r.mu.Lock()
	change(&r.status)
	r.mu.Unlock()
	r.changed()
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
