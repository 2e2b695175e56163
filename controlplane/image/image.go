// SPDX-License-Identifier: Apache-2.0

// Package image writes container images, and has the one that each pod's sandbox
// runs.
//
// An archive is a tar of an OCI image layout with the image's name in the
// annotation that containerd looks for. What is written depends on what went in
// alone: the same files give the same bytes, and so the same digests.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationName is where containerd looks for a full name: the annotation of OCI
// holds a tag alone.
const annotationName = "io.containerd.image.name"

// Image is a container image of one layer.
type Image struct {
	// Name is the whole name, with registry and tag.
	Name string
	// Architecture is one of GOARCH.
	Architecture string
	// Config says what a container of it runs, and as whom.
	Config ocispec.ImageConfig
	// Files are what the layer holds, in any order. Folders that are not among
	// them are made, for all to read.
	Files []File
}

// File is a file of a layer that belongs to root.
type File struct {
	Path string // from the root, without a leading slash
	Mode int64  // permissions, and 01000 for sticky
	// A file is a folder, or a symbolic link if Link is not empty, or else regular.
	Folder  bool
	Link    string
	Content []byte
}

// Write writes an archive of one image.
func Write(w io.Writer, img Image) error {
	a := &archive{blobs: make(map[digest.Digest][]byte)}
	manifest, err := a.addImage(img)
	if err != nil {
		return fmt.Errorf("write image %s: %w", img.Name, err)
	}
	if err := a.write(w, manifest); err != nil {
		return fmt.Errorf("write image %s: %w", img.Name, err)
	}
	return nil
}

// archive collects the blobs of an image layout.
type archive struct {
	blobs map[digest.Digest][]byte
}

func (a *archive) add(mediaType string, content []byte) ocispec.Descriptor {
	sum := sha256.Sum256(content)
	d := ocispec.Descriptor{
		MediaType: mediaType, Digest: digest.NewDigestFromBytes(digest.SHA256, sum[:]), Size: int64(len(content)),
	}
	a.blobs[d.Digest] = content
	return d
}

func (a *archive) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.add(mediaType, content), nil
}

// addImage adds layer, configuration and manifest, and returns what an index says
// of the latter.
func (a *archive) addImage(img Image) (ocispec.Descriptor, error) {
	var layer bytes.Buffer
	if err := writeLayer(&layer, img.Files); err != nil {
		return ocispec.Descriptor{}, err
	}
	platform := ocispec.Platform{OS: "linux", Architecture: img.Architecture}
	layerDesc := a.add(ocispec.MediaTypeImageLayer, layer.Bytes())
	config, err := a.addJSON(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: platform,
		Config:   img.Config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layerDesc.Digest}},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest, err := a.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    []ocispec.Descriptor{layerDesc},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifest.Platform = &platform
	manifest.Annotations = map[string]string{annotationName: img.Name, ocispec.AnnotationRefName: tag(img.Name)}
	return manifest, nil
}

// write writes the layout: who reads it as a stream learns first what it is.
func (a *archive) write(w io.Writer, manifest ocispec.Descriptor) error {
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{manifest},
	})
	if err != nil {
		return err
	}
	files := []File{
		{Path: ocispec.ImageLayoutFile, Mode: 0o644, Content: layout},
		{Path: ocispec.ImageIndexFile, Mode: 0o644, Content: index},
	}
	var blobs []File
	for d, content := range a.blobs {
		blobs = append(blobs, File{
			Path: path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), Mode: 0o644, Content: content,
		})
	}
	slices.SortFunc(blobs, byPath)
	return writeTar(w, append(files, blobs...))
}

// tag is the tag of a name that has one.
func tag(name string) string {
	base := path.Base(name)
	return base[strings.LastIndex(base, ":")+1:]
}

// writeTar writes the files in the order given, without a time or an owner.
func writeTar(w io.Writer, files []File) error {
	tw := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{
			Name: f.Path, Mode: f.Mode, Typeflag: tar.TypeReg, Size: int64(len(f.Content)),
			ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		}
		switch {
		case f.Folder:
			h.Typeflag, h.Name, h.Size = tar.TypeDir, f.Path+"/", 0
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if h.Size == 0 {
			continue
		}
		if _, err := tw.Write(f.Content); err != nil {
			return err
		}
	}
	return tw.Close()
}
