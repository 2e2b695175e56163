// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func example() Image {
	return Image{
		Name: "registry.example.com:5000/a/b:1.2", Architecture: "arm64",
		Config: ocispec.ImageConfig{User: "1:1", Entrypoint: []string{"/bin/x"}},
		Files: []File{
			{Path: "bin/x", Mode: 0o755, Content: []byte("program")},
			{Path: "bin/link", Mode: 0o777, Link: "x"},
			{Path: "tmp", Mode: 0o1777, Folder: true},
			{Path: "bin", Mode: 0o700, Folder: true},
			{Path: "etc/empty", Mode: 0o600},
		},
	}
}

func mustRead(t *testing.T, r io.Reader) (files map[string][]byte, list []tar.Header) {
	t.Helper()
	files = make(map[string][]byte)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, list
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
		list = append(list, tar.Header{
			Name: h.Name, Mode: h.Mode, Typeflag: h.Typeflag, Linkname: h.Linkname, Size: h.Size, ModTime: h.ModTime.UTC(),
			Uid: h.Uid, Gid: h.Gid,
		})
	}
}

// TestWrite follows an archive from its index to the files of the layer, as who
// reads it does.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, example()); err != nil {
		t.Fatal(err)
	}
	files, list := mustRead(t, &b)
	if list[0].Name != "oci-layout" || string(files["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("the first file is %s: %s", list[0].Name, files["oci-layout"])
	}
	var index ocispec.Index
	decode(t, files["index.json"], &index)
	wantNames := map[string]string{
		"io.containerd.image.name":          "registry.example.com:5000/a/b:1.2",
		"org.opencontainers.image.ref.name": "1.2",
	}
	if diff := cmp.Diff(wantNames, index.Manifests[0].Annotations); diff != "" {
		t.Errorf("names: -want +got:\n%s", diff)
	}
	var manifest ocispec.Manifest
	decode(t, blob(t, files, index.Manifests[0]), &manifest)
	var config ocispec.Image
	decode(t, blob(t, files, manifest.Config), &config)
	layer := blob(t, files, manifest.Layers[0])
	want := ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"},
		Config:   ocispec.ImageConfig{User: "1:1", Entrypoint: []string{"/bin/x"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Errorf("configuration: -want +got:\n%s", diff)
	}
	content, headers := mustRead(t, bytes.NewReader(layer))
	if got := string(content["bin/x"]); got != "program" {
		t.Errorf("bin/x holds %q", got)
	}
	var got []string
	for _, h := range headers {
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s has an owner or a time: %+v", h.Name, h)
		}
		got = append(got, strings.TrimSpace(h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname))
	}
	wantFiles := []string{
		"drwx------ bin/", "Lrwxrwxrwx bin/link x", "-rwxr-xr-x bin/x",
		"drwxr-xr-x etc/", "-rw------- etc/empty", "dtrwxrwxrwx tmp/",
	}
	if diff := cmp.Diff(wantFiles, got); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
}

func blob(t *testing.T, files map[string][]byte, d ocispec.Descriptor) []byte {
	t.Helper()
	content, ok := files[path.Join("blobs/sha256", d.Digest.Encoded())]
	if !ok || digest.FromBytes(content) != d.Digest || int64(len(content)) != d.Size {
		t.Fatalf("blob %s of %d bytes is not there, or another", d.Digest, d.Size)
	}
	return content
}

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}

// The order of files is not that of the archive.
func TestWriteIsReproducible(t *testing.T) {
	a, other := example(), example()
	for i, f := range a.Files {
		other.Files[len(a.Files)-1-i] = f
	}
	var first, second bytes.Buffer
	if err := errors.Join(Write(&first, a), Write(&second, other)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files gave different archives")
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []File
		want  string
	}{
		{"absolute", []File{{Path: "/bin/x"}}, "not a path from the root"},
		{"upwards", []File{{Path: "../x"}}, "not a path from the root"},
		{"root", []File{{Path: ".", Folder: true}}, "not a path from the root"},
		{"twice", []File{{Path: "x"}, {Path: "x"}}, "it is there already"},
		{"below a file", []File{{Path: "x"}, {Path: "x/y"}}, `"x" is not a folder`},
		{"below a link", []File{{Path: "x", Link: "/"}, {Path: "x/y/z"}}, `"x" is not a folder`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Write(io.Discard, Image{Name: "a:1", Files: tt.files})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Write() error = %v, want it to say %q", err, tt.want)
			}
		})
	}
}
