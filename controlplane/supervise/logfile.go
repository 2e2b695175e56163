// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A child writes to its log by itself, for it outlives its supervisor. So the file
// cannot be taken away from it: it is copied, and then cut to nothing. What is
// written between the two, in a few microseconds, is lost.

// openLog opens a log for a child to append to.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("create log folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// rotation keeps logs from growing without end.
type rotation struct {
	size int64 // of a log, in bytes, above which it is rotated
	keep int   // old logs: log.1 is the newest
}

// rotate rotates a log that is too large. Where it cannot be copied, and has grown
// to twice that, it is cut all the same: a full disk is worse than a lost log.
func (r rotation) rotate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= r.size {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := r.copyAway(path); err != nil {
		if info.Size() > 2*r.size {
			err = errors.Join(fmt.Errorf("the log is lost: %w", err), os.Truncate(path, 0))
		}
		return fmt.Errorf("rotate log %s: %w", path, err)
	}
	return nil
}

func (r rotation) copyAway(path string) error {
	old := func(i int) string { return fmt.Sprintf("%s.%d", path, i) }
	// First, for its room may be needed.
	if err := os.Remove(old(r.keep)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	temporary := path + ".new"
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	for i := r.keep - 1; i > 0; i-- {
		if err := os.Rename(old(i), old(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, os.Remove(temporary))
		}
	}
	if err := os.Rename(temporary, old(1)); err != nil {
		return err
	}
	// What was written meanwhile. From here to the cut nothing may come between.
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return from.Truncate(0)
}

// What is shown of a log: the cause of a failure is mostly at its end.
const (
	tailLines = 10
	tailBytes = 4 << 10
)

// tail returns the last lines of a log, but only of those from the offset on.
func tail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	if from > size {
		from = 0 // rotated since
	}
	start := max(from, size-tailBytes)
	text, err := io.ReadAll(io.NewSectionReader(f, start, size-start))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
