// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/version"
	"golang.org/x/sys/unix"
)

func TestSave(t *testing.T) {
	s := start(t, newLayout(t))
	s.put(t, "a", "1")
	s.put(t, "b", "2")
	last := s.put(t, "a", "3")
	dir := t.TempDir()
	file := filepath.Join(dir, "one"+Suffix)
	m, err := s.saver().Save(t.Context(), file)
	must(t, err)
	if m.Revision != last || m.Keys != 2 || m.Node != "one" || m.Waggle != "v0.5.0" || m.Kubernetes != ours.Kubernetes || m.Layout != 1 || m.Etcd != version.Version {
		t.Errorf("manifest is %+v, want revision %d, 2 keys, and the versions of the server", m, last)
	}
	got, err := readFile(file, sink{})
	must(t, err)
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("manifest in the file differs (-saved +read):\n%s", diff)
	}
	info, err := os.Stat(file)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the file's mode is %s", info.Mode())
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("the folder holds %q", left)
	}
}

// Whatever is in the way of saving, nothing is left, and the error says what to do.
func TestSaveRefuses(t *testing.T) {
	s, other := start(t, newLayout(t)), start(t, newLayout(t))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, row := range map[string]struct {
		ctx    context.Context
		change func(s *Saver, path *string)
		want   string
	}{
		"no server":        {nil, func(s *Saver, _ *string) { s.URL = "https://" + closed.Addr().String() }, "does not answer on https://127.0.0.1"},
		"another's server": {nil, func(s *Saver, _ *string) { s.URL = other.url }, "is it the server of this data folder that runs?"},
		"no state":         {nil, func(s *Saver, _ *string) { s.Layout.Data = t.TempDir() }, "no server was started on it yet"},
		"file exists":      {nil, func(_ *Saver, path *string) { *path = s.VersionFile() }, "exists: give another name"},
		"no folder":        {nil, func(_ *Saver, path *string) { *path += "/x/y" }, "no such file or directory"},
		"cancelled":        {ended, func(*Saver, *string) {}, "canceled"},
		"key lost":         {nil, func(s *Saver, _ *string) { s.Layout = without(t, s.Layout.Data, "pki/service-account.key") }, "service-account.key: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x"+Suffix)
			saver := s.saver()
			row.change(saver, &path)
			ctx := t.Context()
			if row.ctx != nil {
				ctx = row.ctx
			}
			before, _ := os.ReadFile(path)
			_, err := saver.Save(ctx, path)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if left := names(t, dir); len(left) != 0 {
				t.Errorf("left %q", left)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("a file was overwritten")
			}
		})
	}
}

// A key of encryption that came while etcd's database was saved may be the one that
// it needs.
func TestSaveWhileKeysChange(t *testing.T) {
	s := start(t, newLayout(t))
	saver := s.saver()
	small, err := saver.readSmall()
	must(t, err)
	must(t, os.WriteFile(s.EncryptionConfig(), []byte("changed"), 0o600))
	again, err := saver.readSmall()
	must(t, err)
	if err := unchanged(s.Data, small, again); err == nil || !strings.Contains(err.Error(), "encryption.yaml has changed meanwhile: save it again") {
		t.Errorf("got %v", err)
	}
	if err := unchanged(s.Data, again, again); err != nil {
		t.Error(err)
	}
}

// What died while it wrote an archive has left it, what lives is let alone.
func TestParts(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, ".waggle-kube-1.part")
	must(t, os.WriteFile(dead, nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "notes.part"), nil, 0o600))
	living, err := createPart(dir)
	must(t, err)
	defer living.Close()
	must(t, removeParts(dir))
	if got, want := names(t, dir), []string{filepath.Base(living.Name()), "notes.part"}; !cmp.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestRoomRemedy(t *testing.T) {
	if got := roomRemedy(&os.PathError{Op: "write", Path: "/x", Err: unix.ENOSPC}, "/x"); !strings.Contains(got, "free space in the file system of /x") {
		t.Errorf("got %q", got)
	}
	if got := roomRemedy(errors.New("other"), "/x"); got != "" {
		t.Errorf("got %q", got)
	}
}
