// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package runtime

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/image"
)

const testName = "example.com/test:1"

// archive is an image that can be changed.
func archive(t *testing.T, edit func(*image.Image)) []byte {
	t.Helper()
	img := image.Pause()
	img.Name = testName
	// containerd may still have what an earlier test brought in.
	unique := rand.Text()
	img.Config.Env = []string{"UNIQUE=" + unique}
	img.Files = append(img.Files, image.File{Path: unique, Mode: 0o644})
	if edit != nil {
		edit(&img)
	}
	var b bytes.Buffer
	if err := image.Write(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// without leaves out the files of an archive that hold a text.
func without(t *testing.T, from []byte, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	left := 0
	for r := tar.NewReader(bytes.NewReader(from)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), text) && strings.HasPrefix(h.Name, "blobs/") {
			left++
			continue
		}
		writeEntry(t, w, h.Name, content)
	}
	if left != 1 {
		t.Fatalf("%d blobs hold %q, want one", left, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeEntry(t *testing.T, w *tar.Writer, name string, content []byte) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dockerSave is what docker save writes of an image with an empty layer.
func dockerSave(t *testing.T, names ...string) []byte {
	t.Helper()
	layer := make([]byte, 1024) // the end of a tar
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": goruntime.GOARCH, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": names, "Layers": []string{"1/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	writeEntry(t, w, "1/layer.tar", layer)
	writeEntry(t, w, "config.json", config)
	writeEntry(t, w, "manifest.json", manifest)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImport(t *testing.T) {
	n := startNode(t, nil)
	whole := archive(t, nil)
	for _, tt := range []struct {
		name    string
		content []byte
		want    []string
		wantErr string
	}{
		{"oci", whole, []string{testName}, ""},
		{"gzip", gzipped(t, whole), []string{testName}, ""},
		{"docker save", dockerSave(t, "busybox", "example.com/b:2"), []string{"docker.io/library/busybox:latest", "example.com/b:2"}, ""},
		{"docker save by ID", dockerSave(t), nil, "the archive does not say what its images are called"},
		{"empty", nil, nil, "must be a tar of images"},
		{"text", bytes.Repeat([]byte("text\n"), 1000), nil, "must be a tar of images"},
		{"another tar", make([]byte, 1024), nil, "must be a tar of images"},
		{"cut short", whole[:len(whole)/2/512*512+100], nil, "it is cut short"},
		{"cut short after a file", archive(t, nil)[:4*512], nil, "the archive lacks a part of it"},
		{"gzip cut short", gzipped(t, whole)[:300], nil, "it is cut short"},
		{"no layer", without(t, archive(t, nil), "ELF"), nil, "the archive lacks a part of it"},
		{"no config", without(t, archive(t, nil), "rootfs"), nil, "the archive lacks a part of it"},
		{"no manifest", without(t, archive(t, nil), "image.layer"), nil, "the archive lacks a part of it"},
		{"another platform", archive(t, func(i *image.Image) { i.Architecture = "s390x" }), nil, "no image for linux/"},
		{"no name", archive(t, func(i *image.Image) { i.Name = "" }), nil, "the archive does not say what its images are called"},
		{"not a name", archive(t, func(i *image.Image) { i.Name = "example.com/UPPER:1" }), nil, "the archive calls an image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "-archive.tar")
			mustWrite(t, file, tt.content)
			got, err := n.importer().Import(t.Context(), file)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || !strings.Contains(err.Error(), file) {
					t.Errorf("Import() error = %v, want it to name the file and to say %q", err, tt.wantErr)
				}
			} else if diff := cmp.Diff([]Imported{{file, tt.want}}, got); err != nil || diff != "" {
				t.Errorf("Import() error = %v, -want +got:\n%s", err, diff)
			}
			n.wantImages(t, tt.want)
			for _, name := range n.imageNames(t) {
				n.ctr(t, "images", "rm", "--sync", name)
			}
		})
	}
}

// One archive of several is bad.
func TestImportSeveral(t *testing.T) {
	n := startNode(t, nil)
	dir := t.TempDir()
	good, bad, absent := filepath.Join(dir, "good.tar"), filepath.Join(dir, "bad.tar"), filepath.Join(dir, "absent.tar")
	mustWrite(t, good, archive(t, nil))
	mustWrite(t, bad, []byte("x"))
	got, err := n.importer().Import(t.Context(), bad, absent, good)
	if err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), absent) || strings.Contains(err.Error(), good) {
		t.Errorf("Import() error = %v, want it to name %s and %s", err, bad, absent)
	}
	if diff := cmp.Diff([]Imported{{good, []string{testName}}}, got); diff != "" {
		t.Errorf("Import() -want +got:\n%s", diff)
	}
}

func TestImportWithoutContainerd(t *testing.T) {
	n := startNode(t, nil)
	i := n.importer()
	i.Layout.Run = t.TempDir()
	file := filepath.Join(t.TempDir(), "a.tar")
	mustWrite(t, file, archive(t, nil))
	if _, err := i.Import(t.Context(), file); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "waggle-kube") {
		t.Errorf("Import() error = %v, want it to ask for waggle-kube", err)
	}
}

// wantImages checks the names that pods can use, beside those by digest.
func (n *node) wantImages(t *testing.T, want []string) {
	t.Helper()
	var got []string
	for _, name := range n.imageNames(t) {
		if !strings.HasPrefix(name, "sha256:") {
			got = append(got, name)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("images = %q, want %q", got, want)
	}
}

func (n *node) imageNames(t *testing.T) []string {
	t.Helper()
	return strings.Fields(n.ctr(t, "images", "ls", "-q"))
}
