// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

const boot = "boot-1"

func record(n int) Record {
	a := protocol.Attachment{ContainerID: fmt.Sprintf("c%d", n), IfName: "eth0"}
	return Record{
		Network: "waggle",
		State:   Creating,
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Spec: endpoint.Spec{
			ID: uint32(n), ContainerID: a.ContainerID, IfName: a.IfName, HostIfName: a.HostIfName(),
			Addresses: []netip.Addr{
				netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
				netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n)),
			},
			PodMAC: endpoint.MAC{2, 0, 0, 0, 0, byte(n)}, HostMAC: endpoint.MAC{2, 0, 0, 0, 1, byte(n)}, MTU: 1500,
		},
	}
}

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := open(path, boot, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// crash is what a killed process leaves: the file as the page cache has it,
// and no lock.
func crash(t *testing.T, s *Store) *Store {
	t.Helper()
	b, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "endpoints.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, path)
}

func TestEveryStepSurvivesACrash(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "run", "endpoints.db"))
	var want []Record
	var resting []Released
	step := func(name string, fn func() error) {
		t.Helper()
		if err := fn(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s = crash(t, s)
		records, released, err := s.Load()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		opts := []cmp.Option{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
		if d := cmp.Diff(want, records, opts...); d != "" {
			t.Errorf("%s: records (-want +got):\n%s", name, d)
		}
		if d := cmp.Diff(resting, released, opts...); d != "" {
			t.Errorf("%s: released (-want +got):\n%s", name, d)
		}
	}

	one, two := record(1), record(2)
	want = []Record{one}
	step("create one", func() error { return s.Create(one) })
	want = []Record{one, two}
	step("create two", func() error { return s.Create(two) })
	want[0].State = Ready
	step("one is ready", func() error { return s.Ready(one.Attachment()) })
	want = want[1:]
	resting = []Released{{one.Spec.Addresses[0], 7 * time.Second}, {one.Spec.Addresses[1], 7 * time.Second}}
	step("release one", func() error { return s.Release(one.Attachment(), 7*time.Second) })

	again := record(1)
	again.Spec.Addresses = again.Spec.Addresses[:1]
	want, resting = []Record{again, two}, resting[1:]
	step("create with a rested address", func() error { return s.Create(again) })
	step("fail to create twice", func() error { return expect(s.Create(again), ErrExists) })
	step("fail to release the absent", func() error { return expect(s.Release(record(9).Attachment(), 1), ErrAbsent) })
	step("fail to complete the absent", func() error { return expect(s.Ready(record(9).Attachment()), ErrAbsent) })
	forgotten := resting
	resting = nil
	step("forget", func() error { return s.Forget(forgotten) })
}

func expect(err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("error %w, want %w", err, want)
	}
	return nil
}

func TestRebootEmptiesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.db")
	s := mustOpen(t, path)
	if err := errors.Join(s.Create(record(1)), s.Create(record(2)), s.Release(record(2).Attachment(), 3), s.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, "boot-2")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	records, released, err := s.Load()
	if err != nil || len(records) != 0 || len(released) != 0 {
		t.Errorf("after a reboot: %v %v %v", records, released, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.db")
	s := mustOpen(t, path)
	if _, err := open(path, boot, 20*time.Millisecond); !errors.Is(err, ErrInUse) {
		t.Errorf("error %v, want in use", err)
	}
	s.Close()
	mustOpen(t, path)
}

// filled gives the bytes of a store with some records.
func filled(t *testing.T) []byte {
	s := mustOpen(t, filepath.Join(t.TempDir(), "endpoints.db"))
	for n := range 100 {
		if err := s.Create(record(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	b, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedFiles(t *testing.T) {
	good := filled(t)
	page := os.Getpagesize()
	zero := func(from, to int) []byte {
		b := append([]byte(nil), good...)
		clear(b[from:to])
		return b
	}
	for _, tc := range []struct {
		name string
		data []byte
		want error
	}{
		{"text", []byte("hello, I am a text file\n"), ErrForeign},
		{"long text", make([]byte, 10*page), ErrForeign},
		{"both meta pages zeroed", zero(0, 2*page), ErrForeign},
		{"cut after the meta pages", good[:2*page], ErrCorrupt},
		{"cut after three pages", good[:3*page], ErrCorrupt},
		{"data zeroed", zero(2*page, len(good)), ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "endpoints.db")
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := open(path, boot, 50*time.Millisecond)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			t.Log(err)
			if b, _ := os.ReadFile(path); string(b) != string(tc.data) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestForeignAndContradictoryContents(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(tx *bbolt.Tx) error
		want   error
	}{
		{"another program's buckets", func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("etcd"))
			return errors.Join(err, tx.DeleteBucket(bucketMeta))
		}, ErrForeign},
		{"newer layout", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyLayout, []byte("99")) }, ErrNewer},
		{"no layout", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyLayout) }, ErrCorrupt},
		{"missing bucket", func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketReleased) }, ErrCorrupt},
		{"record is not JSON", func(tx *bbolt.Tx) error { return tx.Bucket(bucketRecords).Put([]byte("x/eth0"), []byte("{")) }, ErrCorrupt},
		{"record of another", func(tx *bbolt.Tx) error { return tx.Bucket(bucketRecords).Put([]byte("x/eth0"), js(record(1))) }, ErrCorrupt},
		{"address twice", func(tx *bbolt.Tx) error {
			r := record(1)
			r.Spec.ID, r.Spec.ContainerID = 2, "x"
			return tx.Bucket(bucketRecords).Put([]byte("x/eth0"), js(r))
		}, ErrCorrupt},
		{"released of a strange length", func(tx *bbolt.Tx) error { return tx.Bucket(bucketReleased).Put([]byte("abc"), nil) }, ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "endpoints.db")
			s := mustOpen(t, path)
			if err := errors.Join(s.Create(record(1)), s.db.Update(tc.change), s.Close()); err != nil {
				t.Fatal(err)
			}
			s, err := open(path, boot, 50*time.Millisecond)
			if err == nil {
				_, _, err = s.Load()
				s.Close()
			}
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			t.Log(err)
		})
	}
}

func js(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
