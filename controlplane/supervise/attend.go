// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// slowReady is how long a start takes before somebody would like to know why.
	slowReady = 10 * time.Second
	// probeTimeout is how long one question for readiness may take.
	probeTimeout = 5 * time.Second
)

// attend looks after a process until it has ended, or until ctx ends, when it
// returns false.
func (r *runner) attend(ctx context.Context, p *process) (ended bool) {
	r.update(func(s *ChildStatus) { s.setState(Starting, r.clock.Now()) })
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	probes := r.probe(attempt)
	timer, slow := r.clock.NewTimer(r.ReadyTimeout), r.clock.NewTimer(slowReady)
	defer timer.Stop()
	defer slow.Stop()
	isLate, isSlow := timer.C(), slow.C()
	notReady := errors.New("nobody has answered yet")
	for {
		select {
		case <-ctx.Done():
			return false
		case <-p.done:
			r.bury(p)
			return true
		case err := <-probes:
			if err != nil {
				notReady = err
				r.update(func(s *ChildStatus) { s.LastError = err.Error() })
				continue
			}
			probes, isLate, isSlow = nil, nil, nil
			r.becomeReady(p)
		case <-isSlow:
			isSlow = nil
			r.log.Warn("not ready yet", "waited", slowReady, "error", notReady)
		case <-isLate:
			cancel()
			probes, isLate, isSlow = nil, nil, nil
			err := fmt.Errorf("not ready within %s: %w", r.ReadyTimeout, notReady)
			r.log.Error("restarting", "error", err, "log", tail(r.LogFile, r.logFrom))
			r.update(func(s *ChildStatus) { s.LastError = err.Error() })
			if err := r.stop(p); err != nil {
				r.log.Error("stopping failed", "error", err)
			}
		}
	}
}

// probe asks for readiness until it is there, and passes on each answer.
func (r *runner) probe(ctx context.Context) <-chan error {
	answers := make(chan error)
	ask := func() error {
		if r.Ready == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		return r.Ready(ctx)
	}
	go func() {
		began := time.Now()
		for {
			err := ask()
			select {
			case answers <- err:
			case <-ctx.Done():
				return
			}
			if err == nil {
				return
			}
			// Nobody learns of it later than by a twentieth of what it took.
			pause := min(max(time.Since(began)/20, 20*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	}()
	return answers
}

func (r *runner) becomeReady(p *process) {
	select {
	case <-r.ready:
	default:
		close(r.ready)
	}
	now := r.clock.Now()
	r.log.Info("ready", "pid", p.pid, "after", now.Sub(p.since).Round(time.Millisecond))
	if r.TimerSlack != 0 {
		if err := setTimerSlack(p.pid, r.TimerSlack); err != nil {
			r.log.Warn("it will wake up more often than it needs to", "error", err)
		}
	}
	r.update(func(s *ChildStatus) { s.setState(Ready, now); s.LastError = "" })
}

// bury writes down that a process has ended which should not have.
func (r *runner) bury(p *process) {
	r.log.Error("ended unexpectedly", "pid", p.pid, "exit", p.exit, "log", tail(r.LogFile, r.logFrom))
	r.forget()
	r.update(func(s *ChildStatus) { s.ended(p.exit, r.clock.Now()) })
}
