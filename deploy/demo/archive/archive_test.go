// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/image"
)

func TestSave(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.tar")
	save := func(content string) os.FileInfo {
		t.Helper()
		img := image.Image{Name: "waggle.dev/x:1", Architecture: "amd64", Files: []image.File{{Path: "x", Mode: 0o644, Content: []byte(content)}}}
		if err := Save(path, img); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := save("one")
	if got := first.Mode(); got != 0o644 {
		t.Errorf("mode is %v: who imports it may not be who built it", got)
	}
	if same := save("one"); !os.SameFile(first, same) {
		t.Error("the same content was written again")
	}
	if other := save("two"); os.SameFile(first, other) {
		t.Error("a new content was written into the file that someone may be reading")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"x.tar"}, names); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
}

func TestReplaceLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, nil); err == nil {
		t.Error("a folder was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestCompile(t *testing.T) {
	const pkg = "github.com/waggle-net/waggle/deploy/demo/guestbook"
	first, err := Compile(t.Context(), pkg)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Compile(t.Context(), pkg)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same source gave two programs")
	}
	_, err = Compile(t.Context(), pkg+"/nothing")
	if err == nil || !strings.Contains(err.Error(), "compile "+pkg+"/nothing") {
		t.Errorf("Compile() of no package: %v", err)
	}
}

func TestStaticRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("text\n"), 100), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:      "bad magic number",
		"/bin/sh": "not linked statically",
	} {
		if _, err := Static(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Static(%s) error = %v, want it to say %q", path, err, want)
		}
	}
}
