// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long a daemon that is just ending may hold the file.
const lockTimeout = 2 * time.Second

// Open opens or creates the file. Boot names this boot of the machine: contents
// from another one are dropped. Errors are ErrInUse, ErrCorrupt, ErrForeign or
// ErrNewer where they say more than the operating system does.
func Open(path, boot string) (*Store, error) {
	return open(path, boot, lockTimeout)
}

func open(path, boot string, timeout time.Duration) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fileError(path, err)
	}
	if err := ensure(path, boot); err != nil {
		return nil, fileError(path, err)
	}
	db, err := openFile(path, timeout)
	if err != nil {
		return nil, fileError(path, err)
	}
	if err := adopt(db, boot); err != nil {
		db.Close()
		return nil, fileError(path, err)
	}
	return &Store{path: path, db: db}, nil
}

// ensure makes the file if there is none. It appears complete or not at all: a
// kill in the middle of the first write would leave what no later start could
// tell from somebody else's file.
func ensure(path, boot string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "new.db")
	db, err := openFile(tmp, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(adopt(db, boot), db.Close()); err != nil {
		return err
	}
	// Link and not rename: what another process made meanwhile stays.
	if err := os.Link(tmp, path); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func adopt(db *bbolt.DB, boot string) error {
	return guard(func() error {
		if err := db.View(verify); err != nil {
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error { return prepare(tx, boot) })
	})
}

func openFile(path string, timeout time.Duration) (db *bbolt.DB, err error) {
	err = guard(func() error {
		var err error
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: timeout, NoSync: true})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, ErrInUse
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, ErrForeign
	case errors.Is(err, berrors.ErrChecksum):
		return nil, ErrCorrupt
	}
	return db, err
}

// verify follows every page of the file.
func verify(tx *bbolt.Tx) error {
	// The checker has a goroutine of its own, where guard does not catch the
	// fault of a page that is not there.
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%w (%d bytes, %d are missing)", ErrCorrupt, info.Size(), tx.Size()-info.Size())
	}
	var first error
	for err := range tx.Check() { // to its end: the checker blocks on the channel
		if first == nil {
			first = fmt.Errorf("%w (%w)", ErrCorrupt, err)
		}
	}
	return first
}

// prepare makes an empty file ours and checks one that is not empty.
func prepare(tx *bbolt.Tx, boot string) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return ErrForeign
		}
		return create(tx, boot)
	}
	v, err := strconv.Atoi(string(meta.Get(keyLayout)))
	switch {
	case err != nil:
		return ErrCorrupt
	case v > layout:
		return ErrNewer
	case string(meta.Get(keyBoot)) != boot:
		for _, b := range [][]byte{bucketMeta, bucketRecords, bucketReleased} {
			if err := tx.DeleteBucket(b); err != nil {
				return err
			}
		}
		return create(tx, boot)
	case tx.Bucket(bucketRecords) == nil, tx.Bucket(bucketReleased) == nil:
		return ErrCorrupt
	}
	return nil
}

func create(tx *bbolt.Tx, boot string) error {
	for _, b := range [][]byte{bucketRecords, bucketReleased} {
		if _, err := tx.CreateBucket(b); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucket(bucketMeta)
	if err != nil {
		return err
	}
	if err := meta.Put(keyLayout, []byte(strconv.Itoa(layout))); err != nil {
		return err
	}
	return meta.Put(keyBoot, []byte(boot))
}

// guard turns what bbolt does with a damaged file into an error: it panics on
// pages of the wrong kind, and faults on pages behind the end of the file.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%v)", ErrCorrupt, p)
		}
	}()
	return fn()
}
