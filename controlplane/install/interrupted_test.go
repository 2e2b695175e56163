// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// killed stands for the end of the process: it passes all deferred clean-up that
// looks at an error.
type killed struct{}

// stopAt returns a step that ends the run before its nth change.
func stopAt(n int, end func() error) func(string, string) error {
	return func(string, string) error {
		n--
		if n == 0 {
			return end()
		}
		return nil
	}
}

// runs says whether f came to its end.
func runs(f func() error) (done bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(killed); !is {
				panic(r)
			}
			err = errors.New("killed")
		}
	}()
	err = f()
	return err == nil, err
}

// Whatever an installation, an upgrade or a removal was stopped at, the next one
// ends where it would have, and a removal leaves nothing.
func TestInterrupted(t *testing.T) {
	kill := func() error { panic(killed{}) }
	fail := func() error { return errors.New("no space left on device") }
	v1, v2 := release(t, "v1"), release(t, "v2")
	v2.Config = []byte("kind: ServerConfig # of v2\n")
	for _, tt := range []struct {
		name, first string
		end         func() error
		then        string
	}{
		{"install killed, install", "install", kill, "install"},
		{"install killed, uninstall", "install", kill, "uninstall"},
		{"install failed, uninstall", "install", fail, "uninstall"},
		{"upgrade killed, install", "upgrade", kill, "install"},
		{"upgrade killed, uninstall", "upgrade", kill, "uninstall"},
		{"upgrade failed, install", "upgrade", fail, "install"},
		{"uninstall killed, uninstall", "uninstall", kill, "uninstall"},
		{"uninstall failed, install", "uninstall", fail, "install"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := interruption{first: tt.first, then: tt.then, end: tt.end, v1: v1, v2: v2, want: installed(t, tt.first, v1, v2)}
			n := 1
			for !i.at(t, n) {
				n++
			}
			if n < 10 {
				t.Errorf("there are only %d steps", n-1)
			}
		})
	}
}

// installed is the system after what is interrupted and then done again.
func installed(t *testing.T, first string, v1, v2 Options) map[string]string {
	t.Helper()
	root := emptySystem(t)
	v1.Root, v2.Root = root, root
	if first == "upgrade" {
		mustInstall(t, v1)
	}
	mustInstall(t, v2)
	return tree(t, root)
}

type interruption struct {
	first, then string
	end         func() error
	v1, v2      Options
	want        map[string]string
}

// at says whether the first action came to its end before step n.
func (i interruption) at(t *testing.T, n int) bool {
	t.Helper()
	root := emptySystem(t)
	before := tree(t, root)
	i.v1.Root, i.v2.Root = root, root
	if i.first != "install" {
		mustInstall(t, i.v1)
	}
	var out bytes.Buffer
	step := system{step: stopAt(n, i.end)}
	done, err := runs(func() error {
		if i.first == "uninstall" {
			return Uninstall(t.Context(), UninstallOptions{Root: root, Out: &out, system: step})
		}
		o := i.v2
		o.Out, o.system = &out, step
		return Install(t.Context(), o)
	})
	if done != (err == nil) {
		t.Fatal(err)
	}
	current, err := os.Readlink(filepath.Join(root, DefaultPrefix, currentName))
	if err == nil && i.first != "uninstall" {
		if _, err := os.Stat(filepath.Join(root, DefaultPrefix, current, "containerd")); err != nil {
			t.Errorf("step %d: current leads to an incomplete version: %v", n, err)
		}
	}
	if i.then == "install" {
		mustInstall(t, i.v2)
		// Of a removal that was stopped, the old programs may still be there.
		if diff := cmp.Diff(i.want, tree(t, root)); diff != "" && i.first != "uninstall" {
			t.Errorf("step %d: differs from what was not interrupted (-want +got):\n%s", n, diff)
		}
	}
	mustUninstall(t, UninstallOptions{Root: root})
	if diff := cmp.Diff(before, tree(t, root)); diff != "" {
		t.Errorf("step %d: left (-before +after):\n%s", n, diff)
	}
	return done
}
