// SPDX-License-Identifier: Apache-2.0

package pending

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/waggle-net/waggle/cni/protocol"
)

func names(t *testing.T, q Queue) []string {
	t.Helper()
	entries, err := os.ReadDir(q.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestQueue(t *testing.T) {
	q := For(filepath.Join(t.TempDir(), "run", "cni.sock"))
	unlock, err := q.Lock()
	if err != nil {
		t.Fatal(err)
	}
	a := protocol.Attachment{ContainerID: "a", IfName: "eth0"}
	b := protocol.Attachment{ContainerID: "b", IfName: "eth0"}
	for _, x := range []protocol.Attachment{a, b, a} {
		if err := q.Put(x); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := q.Has(a); !ok || err != nil {
		t.Errorf("has a: %v %v", ok, err)
	}
	if err := q.Remove(a); err != nil {
		t.Fatal(err)
	}
	if err := q.Remove(a); err != nil {
		t.Errorf("remove what is absent: %v", err)
	}
	if ok, err := q.Has(a); ok || err != nil {
		t.Errorf("has a after its removal: %v %v", ok, err)
	}

	// A write that was cut off goes, a stranger's file stays.
	cut, stranger := filepath.Join(q.Dir(), tmpPrefix+a.Hash()), filepath.Join(q.Dir(), "README")
	for _, f := range []string{cut, stranger} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Prune([]protocol.Attachment{b}); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, q), []string{"README", b.Hash(), lockName}; !slices.Equal(got, want) {
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("files %v, want %v", got, want)
		}
	}
	if err := q.Prune(nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, q); len(got) != 2 {
		t.Errorf("files %v, want the lock and the stranger's", got)
	}
	unlock()
}

func TestLockExcludes(t *testing.T) {
	q := For(filepath.Join(t.TempDir(), "cni.sock"))
	unlock, err := q.Lock()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan struct{})
	go func() {
		defer close(got)
		if second, err := q.Lock(); err != nil {
			t.Error(err)
		} else {
			second()
		}
	}()
	select {
	case <-got:
		t.Fatal("two holders of the lock")
	default:
	}
	unlock()
	<-got
}
