// SPDX-License-Identifier: Apache-2.0

// Package load brings archives of images into containerd.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options say how images are loaded. The zero value works.
type Options struct {
	// Snapshotter unpacks the images. Empty: containerd's default.
	Snapshotter string
	// Labels are put on each image, beside those that it has.
	Labels map[string]string
}

// Archive loads all images of an archive that are for this machine's platform,
// and returns their names. After an error there are none of it but those that
// were there before: an image gets its name when it is complete and unpacked, and
// what has none is collected as garbage.
func Archive(ctx context.Context, c *client.Client, r io.Reader, opts Options) ([]string, error) {
	// Nothing is collected before the images are named.
	ctx, done, err := c.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("lease content: %w", err)
	}
	defer func() { _ = done(ctx) }() // it expires by itself

	index, err := ingest(ctx, c.ContentStore(), r)
	if err != nil {
		return nil, err
	}
	found, err := imagesOf(ctx, c.ContentStore(), index)
	if err != nil {
		return nil, err
	}
	for _, img := range found {
		if err := unpack(ctx, c, img, opts.Snapshotter); err != nil {
			return nil, fmt.Errorf("image %s: %w", img.Name, err)
		}
	}
	names := make([]string, 0, len(found))
	for _, img := range found {
		if err := name(ctx, c.ImageService(), img, opts.Labels); err != nil {
			return nil, fmt.Errorf("name image %s: %w", img.Name, err)
		}
		names = append(names, img.Name)
	}
	return names, nil
}

// ingest puts the archive's blobs into the store and returns its index: its own,
// or one made of what `docker save` writes.
func ingest(ctx context.Context, store content.Store, r io.Reader) (ocispec.Descriptor, error) {
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read archive: %w", err)
	}
	index, err := archive.ImportIndex(ctx, store, plain)
	if err == nil {
		// The rest of a compressed stream holds its checksum.
		_, err = io.Copy(io.Discard, plain)
	}
	err = errors.Join(err, plain.Close())
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ocispec.Descriptor{}, fmt.Errorf("read archive: %w: it is cut short: copy it again", err)
	case err != nil:
		return ocispec.Descriptor{}, fmt.Errorf("read archive: %w: it must be a tar of images as docker save or skopeo writes it, plain, gzip or zstd", err)
	}
	return index, nil
}

// imagesOf returns the images that an index names and that are for this platform.
func imagesOf(ctx context.Context, store content.Store, index ocispec.Descriptor) ([]images.Image, error) {
	raw, err := content.ReadBlob(ctx, store, index)
	if err != nil {
		return nil, fmt.Errorf("read index: %w", incomplete(err))
	}
	var idx ocispec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	var found []images.Image
	var named bool
	for _, m := range idx.Manifests {
		name, err := imageName(m.Annotations)
		if err != nil {
			return nil, err
		}
		if name == "" {
			continue
		}
		named = true
		here, err := isForHere(ctx, store, m)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, incomplete(err))
		}
		if here {
			found = append(found, images.Image{Name: name, Target: m})
		}
	}
	switch {
	case !named:
		return nil, errors.New("the archive does not say what its images are called: save them by name and tag, not by ID")
	case len(found) == 0:
		return nil, fmt.Errorf("the archive holds no image for %s: save it for this platform", platforms.DefaultString())
	}
	return found, nil
}

func isForHere(ctx context.Context, store content.Store, image ocispec.Descriptor) (bool, error) {
	all, err := images.Platforms(ctx, store, image)
	if err != nil {
		return false, err
	}
	for _, p := range all {
		if platforms.Default().Match(p) {
			return true, nil
		}
	}
	return false, nil
}

// unpack keeps the blobs of an image for as long as it has a name, and makes its
// snapshots.
func unpack(ctx context.Context, c *client.Client, img images.Image, snapshotter string) error {
	store := c.ContentStore()
	children := images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default())
	if err := images.WalkNotEmpty(ctx, images.SetChildrenLabels(store, children), img.Target); err != nil {
		return incomplete(err)
	}
	err := client.NewImageWithPlatform(c, img, platforms.Default()).Unpack(ctx, snapshotter)
	if err != nil {
		return fmt.Errorf("unpack: %w", incomplete(err))
	}
	return nil
}

// name makes the image known, or lets a known name stand for it.
func name(ctx context.Context, store images.Store, img images.Image, labels map[string]string) error {
	img.Labels = labels
	_, err := store.Create(ctx, img)
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	paths := []string{"target"}
	for key := range labels {
		paths = append(paths, "labels."+key) // others, such as CRI's, stay
	}
	_, err = store.Update(ctx, img, paths...)
	return err
}

// incomplete says what a missing blob means.
func incomplete(err error) error {
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("the archive lacks a part of it: save it again, with all that belongs to it: %w", err)
	}
	return err
}
