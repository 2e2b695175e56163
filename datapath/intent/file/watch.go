// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch says when a file may have changed. It watches directories, as a file
// that is replaced by renaming is another file:
//
//   - that of the path, and those of the links that the path leads through: a
//     ConfigMap's file is a link to ..data/file, and ..data a link that is replaced;
//   - of a directory that is absent, the nearest one above that is there.
//
// Where the system has no watches left, it says so every now and then instead.
type watch struct {
	path string
	log  *slog.Logger
	fs   *fsnotify.Watcher
	// What to receive from; those that there is no use for are nil.
	events <-chan fsnotify.Event
	errors <-chan error
	ticks  <-chan time.Time

	every  time.Duration
	ticker *time.Ticker
}

func newWatch(path string, every time.Duration, log *slog.Logger) *watch {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	w := &watch{path: path, log: log, every: every}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		w.fallBack(err)
		return w
	}
	w.fs, w.events, w.errors = watcher, watcher.Events, watcher.Errors
	return w
}

// fallBack makes do without what the system would say.
func (w *watch) fallBack(err error) {
	if w.ticker != nil {
		return
	}
	w.log.Warn("cannot watch the intent file, reading it regularly: raise fs.inotify.max_user_instances or fs.inotify.max_user_watches",
		"every", w.every, "error", err)
	w.ticker = time.NewTicker(w.every)
	w.ticks = w.ticker.C
}

func (w *watch) close() {
	if w.fs != nil {
		_ = w.fs.Close() // it has nothing to write
	}
	if w.ticker != nil {
		w.ticker.Stop()
	}
}

// follow watches the directories that matter now. A directory may come or go
// while it looks, so it looks again until nothing is new.
func (w *watch) follow() {
	if w.fs == nil {
		return
	}
	const often = 10 // beyond that, the events of the watches that are there suffice
	for range often {
		want, have := directories(w.path), w.fs.WatchList()
		var changed bool
		for _, dir := range want {
			if slices.Contains(have, dir) {
				continue
			}
			changed = true
			if err := w.fs.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				w.fallBack(err)
				return
			}
		}
		for _, dir := range have {
			if !slices.Contains(want, dir) {
				// An error means that it is gone already.
				_ = w.fs.Remove(dir)
			}
		}
		if !changed {
			return
		}
	}
}

// directories returns those in which a change can make path lead elsewhere:
// those of the links on the way, and the one at its end.
func directories(path string) []string {
	const most = 40 // as many links as Linux follows
	var dirs []string
	for range most {
		link, next, ok := firstLink(path)
		if !ok {
			break
		}
		dirs = append(dirs, filepath.Dir(link))
		path = next
	}
	dirs = append(dirs, existing(filepath.Dir(path)))
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// firstLink returns the first symbolic link on the way to path, and the path
// with what the link points at in its place.
func firstLink(path string) (link, next string, ok bool) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != filepath.Separator {
			continue
		}
		link = path[:i]
		target, err := os.Readlink(link)
		if err != nil { // no link, or absent: then so is what follows
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		return link, filepath.Join(target, path[i:]), true
	}
	return "", "", false
}

// existing returns the nearest directory above dir, or dir itself, that is there.
func existing(dir string) string {
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return dir
}
