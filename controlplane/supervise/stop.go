// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// StopAll ends all processes of a node: its supervisor, if it runs, and each
// recorded child, also those that a supervisor leaves running. It is for another
// process than the supervisor. When it returns nil, none of them runs.
func StopAll(ctx context.Context, l layout.Layout, log *slog.Logger) error {
	lock, err := takeOver(ctx, l, log)
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	records, err := readRecords(l)
	return errors.Join(err, stopRecorded(l, records, log))
}

// takeOver gets the lock, if need be by ending who has it. Without a data folder
// there is none to get, and it returns nil.
func takeOver(ctx context.Context, l layout.Layout, log *slog.Logger) (*Lock, error) {
	for {
		lock, err := acquire(ctx, l)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		held, isHeld := errors.AsType[*HeldError](err)
		if !isHeld {
			return lock, err
		}
		p, err := held.holder.open()
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue // it has ended meanwhile
		}
		log.Info("stopping the supervisor", "pid", p.pid)
		if err := p.signal(unix.SIGTERM); err != nil {
			return nil, err
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("stop supervisor: process %d does not end: see its log, or kill -9 it and try again: %w", p.pid, ctx.Err())
		}
	}
}

// stopRecorded ends recorded processes, those first that depend on others, and
// removes their records. The caller has the lock.
func stopRecorded(l layout.Layout, records []*record, log *slog.Logger) error {
	var failed []error
	for rest := slices.Clone(records); len(rest) > 0; {
		wave := independent(rest)
		errs := make([]error, len(wave))
		var stopping sync.WaitGroup
		for i, r := range wave {
			stopping.Go(func() { errs[i] = r.stop(l, log.With("child", r.Name)) })
		}
		stopping.Wait()
		failed = append(failed, errs...)
		rest = slices.DeleteFunc(rest, func(r *record) bool { return slices.Contains(wave, r) })
	}
	return errors.Join(failed...)
}

// independent returns those that no other depends on. Records of different times
// may depend on each other in a circle: then it is all of them.
func independent(records []*record) (out []*record) {
	for _, r := range records {
		if !slices.ContainsFunc(records, func(other *record) bool { return slices.Contains(other.After, r.Name) }) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return slices.Clone(records)
	}
	return out
}

func (r *record) stop(l layout.Layout, log *slog.Logger) error {
	p, err := r.open()
	if err != nil {
		return fmt.Errorf("stop %s: %w", r.Name, err)
	}
	if p != nil {
		log.Info("stopping", "pid", p.pid)
		if err := p.stop(r.StopSignal, r.StopGrace, clock.RealClock{}, log); err != nil {
			return fmt.Errorf("stop %s: %w", r.Name, err)
		}
	}
	return removeRecord(l.ProcessFile(r.Name))
}

func removeRecord(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Stop ends the supervisor of a node, if it runs, and its children, also those that a
// killed supervisor left, but for those that are kept. It is for another process than
// the supervisor.
func Stop(ctx context.Context, l layout.Layout, log *slog.Logger) error {
	lock, err := takeOver(ctx, l, log)
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	records, err := readRecords(l)
	records = slices.DeleteFunc(records, func(r *record) bool { return r.Keep })
	return errors.Join(err, stopRecorded(l, records, log))
}
