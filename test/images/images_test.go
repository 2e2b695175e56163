// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildIsReproducible(t *testing.T) {
	if _, err := os.Stat(DefaultBusybox); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if err := Build(t.Context(), dir, DefaultBusybox); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"busybox.tar", "agent.tar"} {
		a, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs from one time to the next", name)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "busybox")
	if err := os.WriteFile(text, bytes.Repeat([]byte("text\n"), 100), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:                 "bad magic number",
		"/proc/self/nothing": "no such file",
	} {
		err := Build(t.Context(), t.TempDir(), path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "install busybox-static") {
			t.Errorf("Build(%s) error = %v, want it to say %q and what to install", path, err, want)
		}
	}
}
