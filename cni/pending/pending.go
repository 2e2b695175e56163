// SPDX-License-Identifier: Apache-2.0

// Package pending is the queue of deletes that waggle-cni answered while
// waggled was down: one file for each attachment, in a directory next to the
// daemon's socket.
//
// The hand-over has no gap. A starting daemon holds the queue's lock from
// before it drains the queue until its socket listens. The plugin, having found
// nobody listening, takes the lock, tries the socket once more, and only then
// leaves its file: so either the daemon answers it, or a daemon that drains
// later reads the file.
package pending

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/cni/protocol"
)

const (
	lockName  = "lock"
	tmpPrefix = ".tmp-"
)

// Queue is the directory. Its zero value is not usable; see For.
type Queue struct {
	dir string
}

// For gives the queue of the daemon that listens, or will listen, on socket.
func For(socket string) Queue {
	return Queue{dir: filepath.Join(filepath.Dir(socket), "deleted")}
}

// Dir is where the files are, for messages.
func (q Queue) Dir() string { return q.dir }

// Lock waits for the queue's lock, which ends with the process at the latest.
// It makes the directory: a plugin may run before any daemon ever did.
func (q Queue) Lock() (unlock func(), err error) {
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make queue of pending deletes: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(q.dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of pending deletes: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// Put leaves a file for the attachment. It appears complete or not at all, and
// putting it again changes nothing. The lock must be held.
func (q Queue) Put(a protocol.Attachment) error {
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("put pending delete: %w", err)
	}
	tmp := filepath.Join(q.dir, tmpPrefix+a.Hash())
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("put pending delete: %w", err)
	}
	if err := os.Rename(tmp, q.path(a)); err != nil {
		return fmt.Errorf("put pending delete: %w", err)
	}
	return nil
}

// Has reports whether there is a file for the attachment. The name alone
// decides: a file with damaged contents still means its attachment.
func (q Queue) Has(a protocol.Attachment) (bool, error) {
	_, err := os.Lstat(q.path(a))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up pending delete: %w", err)
	}
	return true, nil
}

// Remove takes the attachment's file away, if there is one.
func (q Queue) Remove(a protocol.Attachment) error {
	if err := os.Remove(q.path(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove pending delete: %w", err)
	}
	return nil
}

// Prune removes every file but those of the attachments in keep: they mean
// endpoints that this daemon never had, and writes that were cut off. The lock
// must be held.
func (q Queue) Prune(keep []protocol.Attachment) error {
	stay := map[string]bool{lockName: true}
	for _, a := range keep {
		stay[a.Hash()] = true
	}
	entries, err := os.ReadDir(q.dir)
	if err != nil {
		return fmt.Errorf("read pending deletes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if stay[e.Name()] || !ours(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(q.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove pending delete: %w", err))
		}
	}
	return errors.Join(errs...)
}

// ours reports whether a file's name is one that Put gives.
func ours(name string) bool {
	name = strings.TrimPrefix(name, tmpPrefix)
	return len(name) == len(protocol.Attachment{}.Hash()) && strings.Trim(name, "0123456789abcdef") == ""
}

func (q Queue) path(a protocol.Attachment) string { return filepath.Join(q.dir, a.Hash()) }
