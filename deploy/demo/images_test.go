// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// readImage follows an archive to its configuration and its one layer, which is checked
// against its digest.
func readImage(t *testing.T, path, name string) (ocispec.Image, []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	eachFile(t, content, func(h *tar.Header, content []byte) { files[h.Name] = content })
	blob := func(d ocispec.Descriptor) []byte {
		content := files["blobs/sha256/"+d.Digest.Encoded()]
		if digest.FromBytes(content) != d.Digest {
			t.Fatalf("%s: blob %s is not there, or another", path, d.Digest)
		}
		return content
	}
	decode := func(content []byte, v any) {
		if err := json.Unmarshal(content, v); err != nil {
			t.Fatalf("%v in %s", err, content)
		}
	}
	var index ocispec.Index
	decode(files[ocispec.ImageIndexFile], &index)
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != name {
		t.Errorf("%s holds %q, want %q", path, got, name)
	}
	var manifest ocispec.Manifest
	decode(blob(index.Manifests[0]), &manifest)
	var config ocispec.Image
	decode(blob(manifest.Config), &config)
	if len(manifest.Layers) != 1 {
		t.Fatalf("%s has %d layers", path, len(manifest.Layers))
	}
	return config, blob(manifest.Layers[0])
}

func eachFile(t *testing.T, archive []byte, visit func(*tar.Header, []byte)) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		visit(h, content)
	}
}

func TestGuestbookImage(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "a.tar"), filepath.Join(t.TempDir(), "b.tar")
	for _, path := range []string{first, second} {
		if err := buildGuestbook(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the same source gave two images")
	}
	config, layer := readImage(t, first, GuestbookImage)
	want := ocispec.ImageConfig{
		User: "65532:65532", Entrypoint: []string{"/guestbook"}, WorkingDir: "/",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration: -want +got:\n%s", diff)
	}
	if config.Architecture != runtime.GOARCH {
		t.Errorf("architecture: %q", config.Architecture)
	}
	var files []string
	eachFile(t, layer, func(h *tar.Header, _ []byte) { files = append(files, h.FileInfo().Mode().String()+" "+h.Name) })
	if diff := cmp.Diff([]string{"-rwxr-xr-x guestbook"}, files); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
}

// A machine without apt, or without a network, keeps what it has, and is told so. With
// nothing there, it learns what to do.
func TestRedisImageWithoutApt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	path := filepath.Join(t.TempDir(), "redis.tar")
	var say strings.Builder
	err := buildRedis(t.Context(), path, &say)
	if err == nil || !strings.Contains(err.Error(), "find apt-get: not installed") || !strings.Contains(err.Error(), "bring "+path) {
		t.Errorf("buildRedis() error = %v, want it to say what is missing, and what to do", err)
	}
	if err := os.WriteFile(path, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := buildRedis(t.Context(), path, &say); err != nil {
		t.Errorf("buildRedis() with an earlier image: %v", err)
	}
	if !strings.Contains(say.String(), path+" stays as it is: find apt-get") {
		t.Errorf("it said %q", say.String())
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "earlier" {
		t.Errorf("the image is %q, %v", content, err)
	}
}
