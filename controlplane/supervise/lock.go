// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Lock is the right to work on a data folder. One process has it, until the Lock
// is closed or the process dies; then those have it that it has forked, until they
// have recorded themselves (see Launch). So whoever gets it finds a record of every
// process that runs.
type Lock struct {
	layout layout.Layout
	file   *os.File
}

// HeldError says that another process holds the lock.
type HeldError struct {
	Data   string // the folder
	holder identity
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("another waggle-kube (pid %d) runs on this data folder: stop it first, or give this one another than %s", e.holder.PID, e.Data)
}

// orphanPatience is how long a process may take from its fork to its record.
const orphanPatience = 10 * time.Second

// Acquire locks the data folder, which it makes if it is missing. If another
// supervisor has it, the error is a HeldError.
func Acquire(ctx context.Context, l layout.Layout) (*Lock, error) {
	// Not to be listed, but to be passed through: the processes of a pod with a
	// user namespace reach their files below it.
	if err := os.MkdirAll(l.Data, 0o711); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	return acquire(ctx, l)
}

func acquire(ctx context.Context, l layout.Layout) (*Lock, error) {
	file, err := os.OpenFile(l.LockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	lock := &Lock{layout: l, file: file}
	if err := lock.take(ctx); err != nil {
		file.Close()
		return nil, err
	}
	if err := lock.sign(); err != nil {
		file.Close()
		return nil, fmt.Errorf("write %s: %w", l.LockFile(), err)
	}
	return lock, nil
}

// take gets the lock where nobody has it, or only the orphans of a dead supervisor,
// whom it awaits. Nobody announces the end of a lock, so it asks again.
func (k *Lock) take(ctx context.Context) error {
	patience := time.NewTimer(orphanPatience)
	defer patience.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(k.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", k.file.Name(), err)
		}
		if holder, runs := k.holder(); runs {
			return &HeldError{Data: filepath.Dir(k.file.Name()), holder: holder}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", k.file.Name(), ctx.Err())
		case <-patience.C:
			return fmt.Errorf("lock %s: an unknown process holds it: see `lsof %s`", k.file.Name(), k.file.Name())
		}
	}
}

// holder is the process that signed, if it runs. Right after the lock was taken the
// signature may be missing, cut, or that of the former holder.
func (k *Lock) holder() (identity, bool) {
	text, err := os.ReadFile(k.file.Name())
	if err != nil {
		return identity{}, false
	}
	var id identity
	if json.Unmarshal(text, &id) != nil {
		return identity{}, false
	}
	runs, err := id.runs()
	return id, err == nil && runs
}

func (k *Lock) sign() error {
	id, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	// In this order it needs no room on a full disk.
	n, err := k.file.WriteAt(append(text, '\n'), 0)
	if err != nil {
		return err
	}
	return k.file.Truncate(int64(n))
}

// Close gives the lock up. The file stays: removing it would let two processes
// each lock a file of that name.
func (k *Lock) Close() error { return k.file.Close() }
