// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// call is a save, by the time since the start.
type call struct {
	at   time.Duration
	name string
}

// scheduled runs a schedule for some time, on a clock that no test waits for.
func scheduled(t *testing.T, s *Schedule, span time.Duration) (calls []call) {
	t.Helper()
	begin := time.Now()
	save := s.Save
	s.Save = func(ctx context.Context, path string) (*Manifest, error) {
		calls = append(calls, call{time.Since(begin), filepath.Base(path)})
		return save(ctx, path)
	}
	s.Node, s.Log = "one", slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	s.Run(ctx)
	return calls
}

func at(calls []call) (out []time.Duration) {
	for _, c := range calls {
		out = append(out, c.at)
	}
	return out
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new")
		var revision int64
		calls := scheduled(t, &Schedule{Every: time.Hour, Keep: 2, Dir: dir, Save: fakeSave(t, &revision)}, 4*time.Hour)
		const first = 5 * time.Minute
		if got, want := at(calls), []time.Duration{first, first + time.Hour, first + 2*time.Hour, first + 3*time.Hour}; !slices.Equal(got, want) {
			t.Errorf("saved at %v, want %v", got, want)
		}
		if got, want := names(t, dir), []string{calls[2].name, calls[3].name}; !cmp.Equal(got, want) {
			t.Errorf("kept %q, want %q", got, want)
		}
		if !strings.HasPrefix(calls[0].name, "scheduled-waggle-kube-one-") {
			t.Errorf("named %s", calls[0].name)
		}
	})
}

// The first one is due an interval after the newest that is there, whatever the
// calendar has done meanwhile.
func TestScheduleFirst(t *testing.T) {
	for name, row := range map[string]struct {
		age  time.Duration
		file string
		want time.Duration
	}{
		"a while ago":         {20 * time.Minute, "scheduled-x.tar.gz", 40 * time.Minute},
		"long ago":            {100 * time.Hour, "scheduled-x.tar.gz", 5 * time.Minute},
		"nearly due":          {58 * time.Minute, "scheduled-x.tar.gz", 5 * time.Minute},
		"in the future":       {-1000 * time.Hour, "scheduled-x.tar.gz", time.Hour},
		"saved by hand":       {20 * time.Minute, "x.tar.gz", 5 * time.Minute},
		"no snapshot at all ": {20 * time.Minute, "scheduled-x.txt", 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				text := fake(t, func(m *Manifest, _ map[string][]byte) { m.Time = time.Now().Add(-row.age) })
				must(t, os.WriteFile(filepath.Join(dir, row.file), text, 0o600))
				var revision int64
				calls := scheduled(t, &Schedule{Every: time.Hour, Keep: 9, Dir: dir, Save: fakeSave(t, &revision)}, 2*time.Hour)
				if len(calls) == 0 || calls[0].at != row.want {
					t.Errorf("saved at %v, want the first at %v", at(calls), row.want)
				}
			})
		})
	}
}

func TestScheduleRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var revision int64
		good, failures := fakeSave(t, &revision), 4
		s := &Schedule{Every: 10 * time.Minute, Keep: 2, Dir: dir, Save: func(ctx context.Context, path string) (*Manifest, error) {
			if failures--; failures >= 0 || revision == 1 {
				return nil, errors.New("no")
			}
			return good(ctx, path)
		}}
		calls := scheduled(t, s, time.Hour)
		minutes := []int{5, 6, 8, 12, 20, 30, 31, 33, 37, 45, 55}
		var want []time.Duration
		for _, m := range minutes {
			want = append(want, time.Duration(m)*time.Minute)
		}
		if got := at(calls); !slices.Equal(got, want) {
			t.Errorf("tried at %v, want %v", got, want)
		}
	})
}

// A snapshot that does not come to an end is given up.
func TestScheduleGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := scheduled(t, &Schedule{Every: time.Hour, Keep: 2, Dir: t.TempDir(), Save: func(ctx context.Context, _ string) (*Manifest, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, 40*time.Minute)
		if got, want := at(calls), []time.Duration{5 * time.Minute, 36 * time.Minute}; !slices.Equal(got, want) {
			t.Errorf("tried at %v, want %v", got, want)
		}
	})
}

// What is newer is told by the revision. What somebody saved, and what is no
// snapshot, stays.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	revisions := map[string]int64{
		"scheduled-1999.tar.gz": 50, // the clock was wrong
		"scheduled-2001.tar.gz": 10,
		"scheduled-2002.tar.gz": 20,
		"scheduled-2099.tar.gz": 5,
		"by-hand.tar.gz":        1,
	}
	for name, revision := range revisions {
		text := fake(t, func(m *Manifest, _ map[string][]byte) { m.Revision = revision })
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	for _, name := range []string{"scheduled-broken.tar.gz", "scheduled-notes.txt"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("?"), 0o600))
	}
	s := Schedule{Dir: dir, Keep: 3, Log: slog.New(slog.DiscardHandler)}
	must(t, s.prune(filepath.Join(dir, "scheduled-2001.tar.gz")))
	want := []string{"by-hand.tar.gz", "scheduled-1999.tar.gz", "scheduled-2001.tar.gz", "scheduled-2002.tar.gz", "scheduled-notes.txt"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("files differ (-want +left):\n%s", diff)
	}
	s.Keep = 1
	must(t, s.prune(filepath.Join(dir, "scheduled-2001.tar.gz")))
	want = []string{"by-hand.tar.gz", "scheduled-2001.tar.gz", "scheduled-notes.txt"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("files differ (-want +left):\n%s", diff)
	}
}
