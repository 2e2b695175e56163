// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waggle-net/waggle/test/await"
)

type provider func(context.Context) (*Status, error)

func (p provider) Status(ctx context.Context) (*Status, error) { return p(ctx) }

func (p provider) Ready() error {
	_, err := p(context.Background())
	return err
}

// tempSocket is a path in a directory that does not exist yet.
func tempSocket(t *testing.T) string { return filepath.Join(t.TempDir(), "run", "waggled.sock") }

func start(t *testing.T, socket string, p provider) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, socket, p, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	await.Until(t, func() error {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func TestServe(t *testing.T) {
	socket := tempSocket(t)
	start(t, socket, func(context.Context) (*Status, error) { return example(), nil })
	got, err := (&Client{Socket: socket}).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	want.normalize()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket is %v, %v", info.Mode(), err)
	}
	err = Serve(t.Context(), socket, nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "another waggled answers there") {
		t.Errorf("a second server got %v", err)
	}
}

func TestReady(t *testing.T) {
	for _, row := range []struct {
		err  error
		want string // the end of the error, empty for none
	}{
		{nil, ""},
		{errors.New("waiting for the file"), "503 Service Unavailable: waiting for the file"},
	} {
		socket := tempSocket(t)
		start(t, socket, func(context.Context) (*Status, error) { return nil, row.err })
		err := (&Client{Socket: socket}).Ready(t.Context())
		if (err == nil) != (row.want == "") || err != nil && !strings.HasSuffix(err.Error(), row.want) {
			t.Errorf("got %v, want %q", err, row.want)
		}
	}
}

func TestStaleSocket(t *testing.T) {
	socket := tempSocket(t)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as if killed

	_, err = (&Client{Socket: socket}).Status(t.Context())
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want %v", err, ErrNotRunning)
	}
	start(t, socket, func(context.Context) (*Status, error) { return nil, errors.New("broken") })
	_, err = (&Client{Socket: socket}).Status(t.Context())
	if want := "waggled at " + socket + " answers 500 Internal Server Error: broken"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNotASocket(t *testing.T) {
	socket := tempSocket(t)
	if err := os.MkdirAll(socket, 0o700); err != nil {
		t.Fatal(err)
	}
	err := Serve(t.Context(), socket, nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "not a socket is there: remove it") {
		t.Errorf("got %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	socket := tempSocket(t)
	_, err := (&Client{Socket: socket}).Status(t.Context())
	want := "waggled does not answer at " + socket + ": is it running? see `systemctl status waggled` and `journalctl -u waggled`"
	if !errors.Is(err, ErrNotRunning) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	start(t, socket, func(ctx context.Context) (*Status, error) {
		<-ctx.Done() // a daemon that hangs
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = (&Client{Socket: socket}).Status(ctx)
	if err == nil || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("got %v", err)
	}
}
