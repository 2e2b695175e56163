// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// scheduledPrefix tells the snapshots that are removed again from those that
	// somebody has saved.
	scheduledPrefix = "scheduled-"

	// settle is how long a start is left alone: the machine is busy enough then.
	settle = 5 * time.Minute
	// firstRetry is the time from a failure to the next try. It doubles up to
	// maxRetry, or the interval.
	firstRetry, maxRetry = time.Minute, time.Hour
	// saveTime is when a snapshot is given up.
	saveTime = 30 * time.Minute
)

// Schedule saves a snapshot every so often. Every field is required.
type Schedule struct {
	// Every is the time between two snapshots, and Keep how many scheduled ones
	// are kept. Others are never removed.
	Every time.Duration
	Keep  int
	// Dir holds them. It is made if it is missing.
	Dir string
	// Node is part of their names.
	Node string
	// Save writes one to a path, as Saver.Save does.
	Save func(ctx context.Context, path string) (*Manifest, error)
	Log  *slog.Logger
}

// Run saves snapshots until the context ends. Times are those of the monotonic
// clock; the calendar is asked once, how old the newest snapshot is, and whatever it
// answers the next one comes within the interval.
func (s *Schedule) Run(ctx context.Context) {
	timer := time.NewTimer(s.first(time.Now()))
	defer timer.Stop()
	var retry time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			retry = 0
			timer.Reset(s.Every)
			continue
		}
		retry = min(max(2*retry, firstRetry), maxRetry, s.Every)
		s.Log.Error("scheduled snapshot failed", "err", err, "retry", retry)
		timer.Reset(retry)
	}
}

// first is the time to the first snapshot.
func (s *Schedule) first(now time.Time) time.Duration {
	soon := min(settle, s.Every)
	entries, err := heads(s.Dir)
	if err != nil {
		s.Log.Warn("snapshots could not be listed", "err", err)
		return soon
	}
	wait := soon
	for _, e := range entries {
		if e.Error == "" && strings.HasPrefix(e.Name, scheduledPrefix) {
			wait = max(wait, s.Every-max(now.Sub(e.Time), 0))
		}
	}
	return wait
}

func (s *Schedule) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, saveTime, fmt.Errorf("it took longer than %s", saveTime))
	defer cancel()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder of snapshots: %w", err)
	}
	path := filepath.Join(s.Dir, scheduledPrefix+FileName(s.Node, time.Now()))
	m, err := s.Save(ctx, path)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return err
	}
	s.Log.Info("snapshot saved", "file", path, "revision", m.Revision, "keys", m.Keys)
	// The snapshot is good, even where old ones are in the way.
	if err := s.prune(path); err != nil {
		s.Log.Error("old snapshots could not be removed", "err", err)
	}
	return nil
}

// prune removes all scheduled snapshots but the newest, of which the one just saved
// is one. Which is newer is told by etcd's revision: it grows also where the clock
// was set back, and restoring raises it. Those that cannot be read go first.
func (s *Schedule) prune(saved string) error {
	entries, err := heads(s.Dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool {
		return e.Path == saved || !strings.HasPrefix(e.Name, scheduledPrefix)
	})
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), b.Time.Compare(a.Time))
	})
	var errs []error
	for i, e := range entries {
		if i+1 < s.Keep {
			continue
		}
		if err := os.Remove(e.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
