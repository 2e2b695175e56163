// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/cni/pending"
	"github.com/waggle-net/waggle/cni/store"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

// A restarted daemon keeps to the order and the rest of released addresses.
func TestRestartRemembersWhoRests(t *testing.T) {
	n := start(t, config(t))
	for _, id := range []string{"a", "b", "c"} {
		n.mustAdd(id)
	}
	n.mustDel("b")
	n.pass(time.Second)
	n.mustDel("a")
	n = n.crash().serve()
	if got := n.mustAdd("d").IPs[0].Address.IP.String(); got != "10.0.0.5" {
		t.Errorf("got %s, want 10.0.0.5, never used", got)
	}
	n.consistent()
}

func TestDeleteThatFailsAtStart(t *testing.T) {
	n := start(t, config(t))
	n.mustAdd("stays")
	n.mustAdd("goes")
	n.mustAdd("stuck")
	n.stop()

	queue := pending.For(n.cfg.Socket)
	unlock, err := queue.Lock()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"goes", "stuck", "never was"} {
		if err := queue.Put(attachment(id)); err != nil {
			t.Fatal(err)
		}
	}
	unlock()

	n = open(t, n.cfg, n.dp)
	if got := len(n.Endpoints()); got != 3 {
		t.Errorf("%d endpoints to restore, want 3", got)
	}
	n.dp.hook(&n.dp.onDelete, func(s *endpoint.Spec) error {
		if s.ContainerID == "stuck" {
			return errors.New("device is busy")
		}
		return nil
	})
	n.serve()
	if d := cmp.Diff([]string{"stays", "stuck"}, n.dp.names()); d != "" {
		t.Errorf("built (-want +got):\n%s", d)
	}
	n.consistent()
	entries, err := os.ReadDir(queue.Dir())
	if err != nil || len(entries) != 2 {
		t.Errorf("queue %v %v, want the lock and what is stuck", entries, err)
	}

	// Deleted for good and added again: the note is not for the new one.
	n.dp.hook(&n.dp.onDelete, nil)
	n.mustDel("stuck")
	n.mustAdd("stuck")
	n.stop()
	n = open(t, n.cfg, n.dp).serve()
	if d := cmp.Diff([]string{"stays", "stuck"}, n.dp.names()); d != "" {
		t.Errorf("built after another restart (-want +got):\n%s", d)
	}
}

// From Recover until the socket listens, an offline DEL waits.
func TestQueueIsLockedUntilTheSocketListens(t *testing.T) {
	n := open(t, config(t), &fakeDatapath{})
	if err := n.Recover(t.Context(), n.dp); err != nil {
		t.Fatal(err)
	}
	locked := make(chan error, 1)
	go func() {
		unlock, err := pending.For(n.cfg.Socket).Lock()
		if err == nil {
			_, err = os.Stat(n.cfg.Socket)
			unlock()
		}
		locked <- err
	}()
	select {
	case <-locked:
		t.Fatal("the queue was free before the daemon serves")
	case <-time.After(20 * time.Millisecond):
	}
	n.serve()
	if err := <-locked; err != nil {
		t.Errorf("lock without a socket: %v", err)
	}
}

func TestDamagedStateStopsTheStart(t *testing.T) {
	cfg := config(t)
	path := filepath.Join(filepath.Dir(cfg.Socket), "endpoints.db")
	if err := os.WriteFile(path, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, store.ErrForeign) {
		t.Errorf("error %v, want foreign", err)
	}
}
