// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/pki"
	"github.com/waggle-net/waggle/controlplane/snapshot/pending"
	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/controlplane/supervise/datadir"
)

// emptyLayout is that of a machine on which no server has ever run.
func emptyLayout(t testing.TB) layout.Layout {
	t.Helper()
	dir := t.TempDir()
	return layout.Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")}
}

// What was saved is there again on another machine, what was written since is not,
// and clients that have seen it find out.
func TestRestore(t *testing.T) {
	old := start(t, newLayout(t))
	old.put(t, "a", "1")
	old.put(t, "b", "2")
	_, err := old.Delete(t.Context(), "b")
	must(t, err)
	file := filepath.Join(t.TempDir(), "saved")
	m, err := old.saver().Save(t.Context(), file)
	must(t, err)
	old.put(t, "a", "changed")
	seen := old.put(t, "late", "3")

	l := emptyLayout(t)
	restored, err := restore(t, l, file, false)
	must(t, err)
	if restored.Aside != "" || !cmp.Equal(restored.Manifest, m) {
		t.Errorf("got %+v, want the manifest %+v and nothing aside", restored, m)
	}
	if got, want := names(t, l.Data), []string{"encryption.yaml", "etcd", "lock", "pki", "version.json"}; !cmp.Equal(got, want) {
		t.Errorf("the data folder holds %q, want %q", got, want)
	}
	was, is := contents(t, old.Data), contents(t, l.Data)
	for _, name := range smallFiles() {
		if was[name] != is[name] {
			t.Errorf("%s was %s, is %s", name, was[name], is[name])
		}
	}
	if got, want := len(names(t, l.PKIDir())), 7; got != want {
		t.Errorf("%d files in pki, want %d: leaves are made by the next start", got, want)
	}

	must(t, datadir.Claim(l, datadir.Programs{Waggle: "v0.6.0", Kubernetes: "v1.37.0"})) // an upgrade is no trouble
	ensurePKI(t, l)
	again := start(t, l)
	if a, b, late := again.get(t, "a"), again.get(t, "b"), again.get(t, "late"); a != "1" || b != "" || late != "" {
		t.Errorf("a is %q, b is %q, late is %q: want 1 and nothing", a, b, late)
	}
	if now := again.put(t, "a", "4"); now < m.Revision+revisionBump || now <= seen {
		t.Errorf("revision is %d after one of %d", now, seen)
	}
	watch := <-again.Watch(t.Context(), "a", clientv3.WithRev(seen+1))
	if !errors.Is(watch.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from revision %d got %v, want that it is compacted", seen+1, watch.Err())
	}
	members, err := again.MemberList(t.Context())
	must(t, err)
	if len(members.Members) != 1 || members.Members[0].Name != EtcdName || !slices.Equal(members.Members[0].PeerURLs, []string{EtcdPeerURL}) {
		t.Errorf("members are %v", members.Members)
	}
	// What was restored can be saved.
	next, err := again.saver().Save(t.Context(), filepath.Join(t.TempDir(), "next"))
	if err != nil || next.Revision <= m.Revision {
		t.Errorf("saved %+v, %v", next, err)
	}
}

// Where there is a reason not to restore, the error names it and the remedy, and
// nothing changes.
func TestRestoreRefuses(t *testing.T) {
	file, used := saved(t)
	running := start(t, newLayout(t))
	other := func(change func(m *Manifest)) string {
		path := filepath.Join(t.TempDir(), "x")
		must(t, os.WriteFile(path, fake(t, func(m *Manifest, _ map[string][]byte) { change(m) }), 0o600))
		return path
	}
	cut := filepath.Join(t.TempDir(), "cut")
	whole, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(cut, whole[:len(whole)-1], 0o600))
	linked := emptyLayout(t)
	must(t, os.Mkdir(linked.Data, 0o700))
	must(t, os.Symlink(t.TempDir(), linked.EtcdDir()))
	locked := newLayout(t)
	lock, err := supervise.Acquire(t.Context(), locked)
	must(t, err)
	defer lock.Close()

	for name, row := range map[string]struct {
		layout layout.Layout
		file   string
		force  bool
		want   string
	}{
		"server runs":          {locked, file, true, "a server runs on " + locked.Data + ": stop it first"},
		"etcd runs":            {running.Layout, file, true, "though its supervisor has ended: stop it first"},
		"state there":          {used, file, false, "has the state of a cluster already (etcd, pki, encryption.yaml): use --force"},
		"a link":               {linked, file, true, "cannot be moved aside"},
		"no file":              {used, file + "x", true, "no such file"},
		"a folder":             {used, t.TempDir(), true, "is no file"},
		"cut":                  {used, cut, true, "it is damaged or no snapshot"},
		"newer Kubernetes":     {used, other(func(m *Manifest) { m.Kubernetes, m.Waggle = "v1.37.0", "v7" }), true, "saved by waggle-kube v7 with Kubernetes v1.37.0, and this one has v1.36.4: restore it with that version or a newer one"},
		"newer major":          {used, other(func(m *Manifest) { m.Kubernetes = "v2.0.0" }), true, "or a newer one"},
		"Kubernetes of old":    {used, other(func(m *Manifest) { m.Kubernetes = "v1.34.1" }), true, "upgraded one minor version at a time"},
		"no Kubernetes":        {used, other(func(m *Manifest) { m.Kubernetes = "" }), true, "is no version"},
		"newer etcd":           {used, other(func(m *Manifest) { m.Etcd = "3.7.0" }), true, "with etcd 3.7.0, and this one has 3.6.99"},
		"newer layout":         {used, other(func(m *Manifest) { m.Layout = layout.Version + 1 }), true, "layout 2, this waggle-kube knows layouts up to 1"},
		"version.json differs": {used, other(func(*Manifest) {}), true, "read version.json"},
	} {
		t.Run(name, func(t *testing.T) {
			before := contents(t, row.layout.Data)
			_, err := restore(t, row.layout, row.file, row.force)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			after := contents(t, row.layout.Data)
			if row.layout == running.Layout {
				// Its own etcd writes there at any time.
				maps.DeleteFunc(before, inEtcd)
				maps.DeleteFunc(after, inEtcd)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the data folder changed (-before +after):\n%s", diff)
			}
		})
	}
}

func inEtcd(path, _ string) bool { return strings.HasPrefix(path, "etcd/member/") }

// Last minor's snapshot is as good as this one's.
func TestRestoreOlder(t *testing.T) {
	for _, v := range []string{"v1.36.4", "v1.36.99", "v1.35.0", "v1.36.0-rc.1"} {
		if err := ours.allows(&Manifest{Layout: 1, Kubernetes: v, Etcd: "3.5.1"}); err != nil {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// Nothing that was there is lost.
func TestRestoreForce(t *testing.T) {
	file, used := saved(t)
	must(t, os.MkdirAll(used.SnapshotsDir(), 0o700))
	must(t, os.WriteFile(filepath.Join(used.SnapshotsDir(), "x"), nil, 0o600))
	var asides []string
	for range 3 { // within a second
		before := contents(t, used.Data)
		restored, err := restore(t, used, file, true)
		must(t, err)
		if slices.Contains(asides, restored.Aside) {
			t.Fatalf("%s is used twice", restored.Aside)
		}
		asides = append(asides, restored.Aside)
		aside := contents(t, restored.Aside)
		if got, want := names(t, restored.Aside), []string{"encryption.yaml", "etcd", "pki", "version.json"}; !cmp.Equal(got, want) {
			t.Errorf("aside are %q, want %q", got, want)
		}
		for name, text := range aside {
			if name != "." && before[name] != text {
				t.Errorf("%s was %q, and is %q aside", name, before[name], text)
			}
		}
		if !slices.Contains(names(t, used.SnapshotsDir()), "x") {
			t.Error("a snapshot is gone")
		}
	}
	ensurePKI(t, used)
	if got := start(t, used).get(t, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}

var errPowerCut = errors.New("power cut")

// A restore that is interrupted at any point is finished, or done anew, by calling
// it again. In between either all is as it was, or a server refuses to start.
func TestInterruptedRestore(t *testing.T) {
	file, _ := saved(t)
	for _, force := range []bool{false, true} {
		for after := 0; ; after++ {
			l := emptyLayout(t)
			if force {
				l = newLayout(t)
				must(t, os.MkdirAll(filepath.Join(l.EtcdDir(), "member"), 0o700))
			} else {
				must(t, os.Mkdir(l.Data, 0o711))
			}
			before := contents(t, l.Data)
			if !interrupt(t, l, file, force, after) {
				if after < 20 {
					t.Errorf("%d steps: are all changes of the disk counted?", after)
				}
				break
			}
			if pending.Check(l) == nil {
				now := contents(t, l.Data)
				for name, text := range before {
					if now[name] != text {
						t.Errorf("%s was %q, is %q", name, text, now[name])
					}
				}
			}
			restored, err := restore(t, l, file, force)
			must(t, err)
			if err := pending.Check(l); err != nil {
				t.Error(err)
			}
			complete(t, l, before, restored)
			if t.Failed() {
				t.Fatalf("power cut after %d steps, force %t", after, force)
			}
		}
	}
}

// interrupt restores until a power cut, and says if there was one.
func interrupt(t *testing.T, l layout.Layout, file string, force bool, after int) bool {
	t.Helper()
	steps := 0
	r := Restorer{Layout: l, Programs: ours, Force: force, step: func(string, string) error {
		if steps++; steps > after {
			return errPowerCut
		}
		return nil
	}}
	_, err := r.Restore(t.Context(), file)
	if err != nil && !errors.Is(err, errPowerCut) {
		t.Fatalf("after %d steps: %v", after, err)
	}
	return err != nil
}

// complete checks that a state is restored, and what was there is aside.
func complete(t *testing.T, l layout.Layout, before map[string]string, r *Restored) {
	t.Helper()
	want := []string{"encryption.yaml", "etcd", "lock", "pki", "version.json"}
	if r.Aside != "" {
		want = append([]string{filepath.Base(r.Aside)}, want...)
		aside := contents(t, r.Aside)
		delete(aside, ".")
		for name, text := range before {
			if strings.HasPrefix(name, "kubeconfig") || name == "." {
				want = append(want, name)
			} else if aside[name] != text {
				t.Errorf("%s was %q, and is %q aside", name, text, aside[name])
			}
		}
	}
	for _, name := range names(t, l.Data) {
		if !slices.Contains(want, name) {
			t.Errorf("%s is left in the data folder", name)
		}
	}
	for _, file := range []string{pki.ClusterCAKey, pki.EtcdCACert} {
		if _, err := os.Stat(l.PKI(file)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(l.EtcdDir(), "member", "snap", "db")); err != nil {
		t.Error(err)
	}
	must(t, datadir.Claim(l, datadir.Programs{Waggle: "v0.5.0", Kubernetes: ours.Kubernetes}))
}

// Whoever wants another snapshot after an interruption learns what he has got.
func TestInterruptedRestoreOfAnother(t *testing.T) {
	file, _ := saved(t)
	other, _ := saved(t)
	l := emptyLayout(t)
	for after := 0; pending.Check(l) == nil; after++ {
		interrupt(t, l, file, false, after)
	}
	if err := pending.Check(l); !strings.Contains(err.Error(), "run `waggle-kube snapshot restore` with the same file again") {
		t.Errorf("a server is told: %v", err)
	}
	if _, err := restore(t, l, other, false); err == nil || !strings.Contains(err.Error(), "had to be finished first") {
		t.Errorf("got %v", err)
	}
	if err := pending.Check(l); err != nil {
		t.Error(err)
	}
	if _, err := restore(t, l, other, true); err != nil {
		t.Error(err)
	}
}
