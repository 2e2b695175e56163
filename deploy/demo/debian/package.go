// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/controlplane/image"
)

// Read reads packages: of their files those that a program may be made of.
func Read(ctx context.Context, paths []string) (Tree, error) {
	t := newTree()
	for _, p := range paths {
		name, _, _ := strings.Cut(filepath.Base(p), "_")
		if err := t.readPackage(ctx, name, p); err != nil {
			return Tree{}, fmt.Errorf("read package %s: %w", name, err)
		}
	}
	return t, nil
}

// readPackage lets dpkg-deb unpack what may be compressed in several ways.
func (t Tree) readPackage(ctx context.Context, name, file string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := t.readTar(name, out)
	if readErr != nil {
		cancel() // or it would wait for a reader
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		readErr = fmt.Errorf("run dpkg-deb: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return readErr
}

// readTar adds the files of a package.
func (t Tree) readTar(pkg string, r io.Reader) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// What pads an archive is read, too, for dpkg-deb to end well.
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if !wanted(name) {
			continue
		}
		f := image.File{Mode: h.Mode & 0o777}
		switch h.Typeflag {
		case tar.TypeReg:
			if f.Content, err = io.ReadAll(tr); err != nil {
				return err
			}
		case tar.TypeSymlink:
			f.Link = h.Linkname
		case tar.TypeLink:
			// Within a package, and after what it is another name of.
			f.Link = "/" + strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		default:
			continue // folders come with what is in them
		}
		if err := t.add(pkg, name, f); err != nil {
			return err
		}
	}
}

// wanted is said of programs, libraries and copyrights.
func wanted(name string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(name, "usr/"), "/")
	switch {
	case slices.Contains([]string{"bin", "sbin"}, top):
		return true
	case strings.HasPrefix(top, "lib"):
		return strings.Contains(path.Base(name), ".so")
	}
	// A package's folder may be a link to that of another, made of the same source.
	return path.Dir(name)+"/" == docs || strings.HasPrefix(name, docs) && path.Base(name) == "copyright"
}
