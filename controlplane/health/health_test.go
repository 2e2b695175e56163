// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/await"
)

func TestBoard(t *testing.T) {
	dir, err := os.MkdirTemp("", "health") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "sock")
	ready := Await(socket)
	if ready(t.Context()) == nil {
		t.Error("nobody serves, and it is ready")
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as a process that was killed leaves it
	dead.Close()
	ctx, stop := context.WithCancel(t.Context())
	b := NewBoard("node", "v1", "v1.36.4")
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, socket, slog.New(slog.DiscardHandler)) }()

	says := func(want string) {
		t.Helper()
		await.Until(t, func() error { // it may not serve yet
			_, err := Fetch(t.Context(), socket)
			return err
		})
		err := ready(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	says("node is starting")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may ask: %v %v", info, err)
	}
	b.Set("kubelet", Starting, "waiting for the API")
	says("kubelet is starting: waiting for the API")
	b.Set("kubelet", Ready, "")
	says("")
	b.Set("dns", Failed, "port taken")
	says("dns is failed: port taken")
	since := b.Report().Components[0].Since
	b.Set("kubelet", Ready, "again")
	if r := b.Report(); r.Components[0].Since != since || r.Components[0].Message != "again" || r.Components[1].Name != "dns" {
		t.Errorf("%+v", r)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
