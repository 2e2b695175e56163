// SPDX-License-Identifier: Apache-2.0

// Package store writes down which endpoints a node has and which addresses
// rest, so that a killed daemon finds them again. One file, one process at a
// time, one transaction for each step of an endpoint's life.
//
// The file outlives the process and not the machine: endpoints end with a
// reboot, which is why nothing is synced to disk and why a file from before the
// last boot is emptied when it is opened.
package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/waggle-net/waggle/cni/protocol"
)

// The file's buckets, and the keys in meta.
var (
	bucketMeta     = []byte("waggle")
	bucketRecords  = []byte("endpoints") // attachment key -> Record as JSON
	bucketReleased = []byte("released")  // address, 4 or 16 bytes -> nanoseconds since boot, big endian

	keyLayout = []byte("layout")
	keyBoot   = []byte("boot")
)

// layout is the version of the file. A release that changes it must still be
// readable by the release before.
const layout = 1

// Store is the open file. It is safe for concurrent use.
type Store struct {
	path string
	db   *bbolt.DB
}

// Close gives the file free for another process.
func (s *Store) Close() error { return s.db.Close() }

// Path is the file's name, for messages.
func (s *Store) Path() string { return s.path }

// Load reads everything. It fails with ErrCorrupt if a record cannot be read or
// two records claim the same thing.
func (s *Store) Load() (records []Record, released []Released, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketRecords).ForEach(func(k, v []byte) error {
			r, err := decodeRecord(k, v)
			records = append(records, r)
			return err
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketReleased).ForEach(func(k, v []byte) error {
			r, err := decodeReleased(k, v)
			released = append(released, r)
			return err
		})
	})
	if err == nil {
		err = contradiction(records)
	}
	if err != nil {
		return nil, nil, fileError(s.path, fmt.Errorf("%w (%w)", ErrCorrupt, err))
	}
	return records, released, nil
}

// Create writes a new record, and its addresses no longer rest.
func (s *Store) Create(r Record) error {
	return s.update("create", r.Attachment(), func(tx *bbolt.Tx, key []byte) error {
		if tx.Bucket(bucketRecords).Get(key) != nil {
			return ErrExists
		}
		for _, a := range r.Spec.Addresses {
			if err := tx.Bucket(bucketReleased).Delete(a.AsSlice()); err != nil {
				return err
			}
		}
		return put(tx, key, r)
	})
}

// Ready marks a record as built.
func (s *Store) Ready(a protocol.Attachment) error {
	return s.update("complete", a, func(tx *bbolt.Tx, key []byte) error {
		r, err := get(tx, key)
		if err != nil {
			return err
		}
		r.State = Ready
		return put(tx, key, r)
	})
}

// Release removes a record, and its addresses rest from now on.
func (s *Store) Release(a protocol.Attachment, now time.Duration) error {
	return s.update("release", a, func(tx *bbolt.Tx, key []byte) error {
		r, err := get(tx, key)
		if err != nil {
			return err
		}
		at := binary.BigEndian.AppendUint64(nil, uint64(now))
		for _, addr := range r.Spec.Addresses {
			if err := tx.Bucket(bucketReleased).Put(addr.AsSlice(), at); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketRecords).Delete(key)
	})
}

// Forget drops addresses that rested long enough and cannot be given out again.
func (s *Store) Forget(released []Released) error {
	if len(released) == 0 {
		return nil
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, r := range released {
			if err := tx.Bucket(bucketReleased).Delete(r.Addr.AsSlice()); err != nil {
				return fmt.Errorf("forget address %s: %w", r.Addr, err)
			}
		}
		return nil
	})
}

func (s *Store) update(verb string, a protocol.Attachment, fn func(*bbolt.Tx, []byte) error) error {
	key := a.Key()
	if err := s.db.Update(func(tx *bbolt.Tx) error { return fn(tx, []byte(key)) }); err != nil {
		return fmt.Errorf("%s record %s: %w", verb, key, err)
	}
	return nil
}

func get(tx *bbolt.Tx, key []byte) (Record, error) {
	v := tx.Bucket(bucketRecords).Get(key)
	if v == nil {
		return Record{}, ErrAbsent
	}
	return decodeRecord(key, v)
}

func put(tx *bbolt.Tx, key []byte, r Record) error {
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketRecords).Put(key, v)
}
