// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var errPowerCut = errors.New("power cut")

// powerCut is a store whose disk changes no more after some steps. It counts
// those that were asked for.
func powerCut(after int) (*store, *int) {
	steps := 0
	return &store{noSync: true, step: func(string, string) error {
		if steps++; steps > after {
			return errPowerCut
		}
		return nil
	}}, &steps
}

const never = 1 << 30

// A first start that is interrupted at any point is completed by the next, and
// what it had made stays.
func TestInterruptedFirstStart(t *testing.T) {
	s, steps := powerCut(never)
	if _, err := ensure(testSpec(t), start, s); err != nil {
		t.Fatal(err)
	}
	if *steps < 100 {
		t.Fatalf("%d steps: are all changes of the disk counted?", *steps)
	}
	for after := range *steps {
		spec := testSpec(t)
		s, _ := powerCut(after)
		if _, err := ensure(spec, start, s); !errors.Is(err, errPowerCut) {
			t.Fatalf("after %d steps: error %v, want the power cut", after, err)
		}
		made := rootFiles(t, spec)
		if _, err := ensure(spec, start.Add(time.Hour), &store{noSync: true}); err != nil {
			t.Fatalf("after %d steps: the next start: %v", after, err)
		}
		now := rootFiles(t, spec)
		for name, text := range made {
			if now[name] != text {
				t.Errorf("after %d steps: %s was replaced", after, name)
			}
		}
		verifyAll(t, spec, start.Add(time.Hour))
		noLeftovers(t, spec)
		if t.Failed() {
			t.Fatalf("power cut after %d steps", after)
		}
	}
}

// rootFiles are the files that must never change once they have their name.
func rootFiles(t *testing.T, spec Spec) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, pattern := range []string{"*.crt", "*.key"} {
		paths, err := filepath.Glob(spec.Layout.PKI(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			files[filepath.Base(p)] = mustRead(t, p)
		}
	}
	return files
}

func noLeftovers(t *testing.T, spec Spec) {
	t.Helper()
	for name := range contents(t, spec.Layout.Data) {
		if strings.HasSuffix(name, pending) {
			t.Errorf("%s is left", name)
		}
	}
}

// While everything is renewed there is no moment at which a certificate is not
// good, and no key is open to others.
func TestInterruptedRenewal(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	now := start.Add(300 * day)
	roots := rootFiles(t, spec)
	for after := 0; ; after++ {
		s, _ := powerCut(after)
		_, err := ensure(spec, now, s)
		if err != nil && !errors.Is(err, errPowerCut) {
			t.Fatalf("after %d steps: %v", after, err)
		}
		verifyAll(t, spec, now)
		closed(t, spec)
		if diff := cmp.Diff(roots, rootFiles(t, spec)); diff != "" {
			t.Errorf("roots changed (-before +after):\n%s", diff)
		}
		if t.Failed() {
			t.Fatalf("power cut after %d steps", after)
		}
		if err == nil {
			break
		}
	}
	noLeftovers(t, spec)
	for file := range wantedLeaves {
		if end := mustPair(t, spec.Layout.PKI(file)).cert().NotAfter; !end.Equal(now.Add(365 * day)) {
			t.Errorf("%s ends at %s, is it renewed?", file, end)
		}
	}
}

// closed checks that nothing which may hold a key is readable for others, files
// that have not got their name yet included.
func closed(t *testing.T, spec Spec) {
	t.Helper()
	err := filepath.WalkDir(spec.Layout.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, ".crt") {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has permissions %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInterruptedEncryptionConfig(t *testing.T) {
	for after := 0; ; after++ {
		l := testSpec(t).Layout
		s, _ := powerCut(after)
		_, cut := ensureEncryptionConfig(l, start, s)
		if cut != nil && !errors.Is(cut, errPowerCut) {
			t.Fatalf("after %d steps: %v", after, cut)
		}
		if _, err := EnsureEncryptionConfig(l, start); err != nil {
			t.Fatalf("after %d steps: the next start: %v", after, err)
		}
		if cut == nil {
			break
		}
	}
}

// What an interruption left beside files that are in order is removed, too.
func TestLeftoversAreRemoved(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	if _, err := EnsureEncryptionConfig(spec.Layout, start); err != nil {
		t.Fatal(err)
	}
	before := contents(t, spec.Layout.Data)
	for name := range before {
		mustWrite(t, filepath.Join(spec.Layout.Data, name+pending), "half")
	}
	if changes := mustEnsure(t, spec, start); len(changes) > 0 {
		t.Errorf("changes %+v, want none", changes)
	}
	if _, err := EnsureEncryptionConfig(spec.Layout, start); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, contents(t, spec.Layout.Data)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
