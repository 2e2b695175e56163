// SPDX-License-Identifier: Apache-2.0

// Package archive makes archives of images of our own programs, with the Go compiler
// and nothing else. The same source gives the same archive, byte for byte.
package archive

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/waggle-net/waggle/controlplane/image"
)

// Compile builds a command, named by its import path, that needs no other file. This
// runs inside of our module.
func Compile(ctx context.Context, pkg string) (_ []byte, err error) {
	dir, err := os.MkdirTemp("", "waggle-images-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w\n%s", pkg, err, out)
	}
	return Static(program)
}

// Static reads a program that needs no other file.
func Static(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil, fmt.Errorf("read %s: it is not linked statically", path)
	}
	return content, nil
}

// Save writes an archive, which others find complete or not at all, into a folder that
// is there. One that is the same already stays as it is.
func Save(path string, img image.Image) error {
	var b bytes.Buffer
	if err := image.Write(&b, img); err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b.Bytes()) {
		return nil
	}
	return Replace(path, b.Bytes())
}

// Replace writes a file by rename, since someone may be reading the one that is there,
// or writing it, too.
func Replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
