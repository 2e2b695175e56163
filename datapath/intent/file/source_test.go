// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/test/await"
)

const header = "apiVersion: waggle.dev/v1alpha1\nkind: Intent\n"

// oneNode is a valid file with a node of the given name.
func oneNode(name string) string {
	return header + fmt.Sprintf("nodes: [{name: %s, addresses: [192.0.2.1]}]\n", name)
}

// run runs a source until the test ends.
func run(t *testing.T, s *Source) *intent.State {
	state := intent.NewState()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, state) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return state
}

func newSource(path string) *Source { return New(path, slog.New(slog.DiscardHandler)) }

// until waits for a condition, and says what it waited for.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.Until(t, func() error {
		if !ok() {
			return fmt.Errorf("no %s", what)
		}
		return nil
	})
}

func untilNode(t *testing.T, state *intent.State, name string) {
	t.Helper()
	until(t, "node "+name, func() bool {
		nodes, synced := state.Nodes.Snapshot()
		_, ok := nodes[name]
		return ok && synced && len(nodes) == 1
	})
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in the place of another in one step, as users should.
func replace(t *testing.T, path, content string) {
	t.Helper()
	put(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestFollowsChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intent.yaml")
	put(t, path, oneNode("a"))
	state := run(t, newSource(path))
	untilNode(t, state, "a")
	replace(t, path, oneNode("b"))
	untilNode(t, state, "b")
	put(t, path, oneNode("c"))
	untilNode(t, state, "c")
}

func TestKeepsTheLastGoodVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intent.yaml")
	put(t, path, oneNode("a"))
	s := newSource(path)
	state := run(t, s)
	untilNode(t, state, "a")
	for _, step := range []struct {
		name, problem string
		do            func() error
	}{
		{"invalid", "nodes[0].name: Invalid value", func() error { replace(t, path, oneNode("B_")); return nil }},
		{"absent", "no such file", func() error { return os.Remove(path) }},
		{"a directory", "not a regular file", func() error { return os.Mkdir(path, 0o700) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		until(t, "the problem of "+step.name, func() bool {
			err := s.Problem()
			return err != nil && strings.Contains(err.Error(), step.problem)
		})
		untilNode(t, state, "a")
	}
	os.Remove(path)
	replace(t, path, oneNode("a"))
	until(t, "no problem", func() bool { return s.Problem() == nil })
}

func TestWaitsForTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "some", "where", "intent.yaml")
	s := newSource(path)
	state := run(t, s)
	until(t, "the problem", func() bool { return s.Problem() != nil })
	put(t, path, "nonsense")
	until(t, "the other problem", func() bool { return strings.Contains(fmt.Sprint(s.Problem()), "mapping") })
	if _, synced := state.Nodes.Snapshot(); synced {
		t.Error("synced without a valid file")
	}
	replace(t, path, oneNode("a"))
	untilNode(t, state, "a")
	if _, synced := state.Services.Snapshot(); !synced {
		t.Error("services are not synced")
	}
}

func TestInvalidAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intent.yaml")
	put(t, path, "kind: Intent")
	s, state := newSource(path), intent.NewState()
	err := s.Run(t.Context(), state)
	want := "read intent " + path + ": apiVersion: Required value: add apiVersion: waggle.dev/v1alpha1"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if _, synced := state.Nodes.Snapshot(); synced {
		t.Error("synced without a valid file")
	}
}

// TestConfigMap replaces the file as the kubelet does: a link to a link to a
// directory, of which the middle one is replaced.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "..1", "intent.yaml"), oneNode("a"))
	link(t, "..1", filepath.Join(dir, "..data"))
	link(t, "..data/intent.yaml", filepath.Join(dir, "intent.yaml"))
	state := run(t, newSource(filepath.Join(dir, "intent.yaml")))
	untilNode(t, state, "a")
	for i, name := range []string{"b", "c"} {
		version := fmt.Sprintf("..%d", i+2)
		put(t, filepath.Join(dir, version, "intent.yaml"), oneNode(name))
		link(t, version, filepath.Join(dir, "..data"))
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i+1))); err != nil {
			t.Fatal(err)
		}
		untilNode(t, state, name)
	}
}

// TestDirectoryReplaced takes the whole directory away and puts another there.
func TestDirectoryReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "waggle")
	path := filepath.Join(dir, "intent.yaml")
	put(t, path, oneNode("a"))
	s := newSource(path)
	state := run(t, s)
	untilNode(t, state, "a")
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	until(t, "the problem", func() bool { return s.Problem() != nil })
	put(t, path, oneNode("b"))
	untilNode(t, state, "b")
	replace(t, path, oneNode("c"))
	untilNode(t, state, "c")
}

func TestDirectories(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "etc", "f"), "")
	put(t, filepath.Join(dir, "srv", "v1", "f"), "")
	link(t, "../srv/now/f", filepath.Join(dir, "etc", "linked"))
	link(t, "v1", filepath.Join(dir, "srv", "now"))
	link(t, "loop", filepath.Join(dir, "loop"))
	for path, want := range map[string][]string{
		"etc/f":      {"etc"},
		"etc/linked": {"etc", "srv", "srv/v1"},
		"srv/now/f":  {"srv", "srv/v1"},
		"srv/v2/x/f": {"srv"},
		"loop":       {""},
	} {
		var full []string
		for _, d := range want {
			full = append(full, filepath.Join(dir, d))
		}
		if diff := cmp.Diff(full, directories(filepath.Join(dir, path))); diff != "" {
			t.Errorf("%s: -want +got:\n%s", path, diff)
		}
	}
}

// TestWithoutWatches reads the file regularly.
func TestWithoutWatches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intent.yaml")
	put(t, path, oneNode("a"))
	w := &watch{path: path, every: time.Millisecond, log: slog.New(slog.DiscardHandler)}
	w.fallBack(os.ErrInvalid)
	defer w.close()
	w.follow()
	<-w.ticks
}
