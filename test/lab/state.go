// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// Where a lab lives on the machine's file system.
const (
	stateRoot = "/run/waggle-lab" // <name>/: a tmpfs per lab; <name>.lock beside it
	netnsRoot = "/run/netns"      // <name>-<host>: where `ip netns` looks
)

func labDir(name string) string    { return filepath.Join(stateRoot, name) }
func nsDir(name string) string     { return filepath.Join(labDir(name), "ns") }
func statePath(name string) string { return filepath.Join(labDir(name), "state.json") }

// netnsNames matches the names below /run/netns that belong to lab name. Lab
// names have no dash, so no lab can match another one's, and what a user made
// with `ip netns add lab-mine` is left alone.
func netnsNames(name string) *regexp.Regexp {
	return regexp.MustCompile("^" + name + "-(router|client|node[0-9]+)$")
}

// saveState marks the lab as complete: Open accepts no lab without it.
func (l *Lab) saveState() error {
	data, err := json.MarshalIndent(l.Topology, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return writeFileAtomic(statePath(l.Name), append(data, '\n'), 0o644)
}

func loadState(name string) (Topology, error) {
	var t Topology
	if err := validateName(name); err != nil {
		return t, err
	}
	data, err := os.ReadFile(statePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return t, fmt.Errorf("open lab %s: %w (waggle-lab up --name %s)", name, ErrNotUp, name)
	}
	if err != nil {
		return t, fmt.Errorf("open lab %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("decode %s: %w", statePath(name), err)
	}
	return t, nil
}

// writeFileAtomic replaces path by renaming, so that no reader sees half a file.
func writeFileAtomic(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // of no effect once renamed
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// lockPoll is how often a waiting process asks for a lock again. flock has no
// way to wait for both the lock and a context.
const lockPoll = 20 * time.Millisecond

// lockLab serialises Up and Down of one name. The returned function unlocks. The
// lock file is removed while it is held: whoever waited for the removed file
// notices that the path leads elsewhere and tries again.
func lockLab(ctx context.Context, name string) (unlock func(), err error) {
	path := filepath.Join(stateRoot, name+".lock")
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, fmt.Errorf("lock lab %s: %w", name, err)
		}
		if err := flock(ctx, f); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock lab %s: %w", name, err)
		}
		if sameFile(f, path) {
			return func() {
				os.Remove(path)
				os.Remove(stateRoot) // fails, as it should, while other labs are there
				f.Close()
			}, nil
		}
		f.Close()
	}
}

func openLock(path string) (*os.File, error) {
	for {
		if err := os.MkdirAll(stateRoot, 0o755); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another lab's Down removed the folder in between
		}
		return f, err
	}
}

func flock(ctx context.Context, f *os.File) error {
	return poll(ctx, lockPoll, func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return err == nil, err
	})
}

func sameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// poll asks done until it says yes, fails, or the context ends. It is for
// conditions that the kernel announces to nobody.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Eventually repeats fn until it succeeds. If ctx ends first, the error is fn's
// last one: that says more than the passing of time.
func Eventually(ctx context.Context, fn func() error) error {
	var last error
	err := poll(ctx, lockPoll, func() (bool, error) {
		last = fn()
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w (%w)", last, err)
	}
	return err
}
