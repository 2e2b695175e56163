// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/snapshot"
)

// TestSavePath: the folder is the configuration's, --dir's or FILE's, and only one that
// was not named as FILE's is made.
func TestSavePath(t *testing.T) {
	c := testConfig(t)
	c.Snapshots.Dir = filepath.Join(t.TempDir(), "configured")
	other := filepath.Join(t.TempDir(), "deep/other")
	for dir, want := range map[string]string{"": c.Snapshots.Dir, other: other} {
		path, err := savePath(c, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if filepath.Dir(path) != want || !strings.HasPrefix(name, "waggle-kube-node1-") || !strings.HasSuffix(name, snapshot.Suffix) {
			t.Errorf("with --dir %q: %s", dir, path)
		}
		if fi, err := os.Stat(want); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want a folder of mode 0700", want, fi, err)
		}
	}
	file := filepath.Join(t.TempDir(), "none/monday")
	if path, err := savePath(c, "", []string{file}); err != nil || path != file {
		t.Errorf("FILE: %s, %v", path, err)
	}
	if _, err := os.Stat(filepath.Dir(file)); err == nil {
		t.Error("the folder of FILE was made")
	}
}

// TestSnapshotList looks into the folder of the configuration, of --dir, or of the data
// folder that no server was started on.
func TestSnapshotList(t *testing.T) {
	c := testConfig(t)
	c.Snapshots.Dir = filepath.Join(t.TempDir(), "configured")
	l := write(t, c)
	broken := func(dir, name string) string {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+snapshot.Suffix), []byte("no archive"), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	broken(c.Snapshots.Dir, "configured")
	other := broken(t.TempDir(), "other")
	fresh := layout.Layout{Data: t.TempDir(), Run: l.Run}
	broken(fresh.SnapshotsDir(), "fresh")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--data-dir", l.Data}, "configured"},
		{[]string{"--data-dir", l.Data, "--dir", other}, "other"},
		{[]string{"--data-dir", fresh.Data}, "fresh"},
		{[]string{"--data-dir", fresh.Data, "--json"}, "fresh"},
	} {
		out, err := execute(t, append([]string{"snapshot", "list"}, tt.args...)...)
		if err != nil || !strings.Contains(out, tt.want+snapshot.Suffix) {
			t.Errorf("%v: %v, want %s in\n%s", tt.args, err, tt.want, out)
		}
	}
}

func TestTellRestored(t *testing.T) {
	l := layout.Layout{Data: "/data"}
	r := &snapshot.Restored{
		Aside:    "/data/before-restore-1",
		Manifest: &snapshot.Manifest{Node: "node7", Time: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC), Keys: 321},
	}
	var b bytes.Buffer
	if err := tellRestored(&b, l, r); err != nil {
		t.Fatal(err)
	}
	head, next, _ := strings.Cut(b.String(), "\n\n")
	want := "restored into /data what node node7 had at 2026-05-01T10:00:00Z (keys: 321)\n" +
		"what was there is in /data/before-restore-1: remove it when you do not need it any more"
	if diff := cmp.Diff(want, head); diff != "" {
		t.Errorf("it says (-want +got):\n%s", diff)
	}
	if want := "waggle-kube kubectl delete node node7"; !strings.Contains(next, want) {
		t.Errorf("what comes next lacks %q:\n%s", want, next)
	}
}
