// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/waggle-net/waggle/controlplane/image"
	"github.com/waggle-net/waggle/controlplane/layout"
)

// namespace is where containerd keeps the pods' images and containers.
const namespace = "k8s.io"

// pinned is the label of images that are never removed to free space: it would
// take a person to bring them back.
const pinned = "io.cri-containerd.pinned=pinned"

// Importer brings archives of images into a containerd that runs.
type Importer struct {
	// Layout, BinDir and Snapshotter are those of containerd's Config.
	Layout      layout.Layout
	BinDir      string
	Snapshotter string
	// Pin keeps the images even if nothing uses them and space is short.
	Pin bool
}

// Imported are the images of an archive.
type Imported struct {
	File   string   `json:"file"`
	Images []string `json:"images"`
}

// Import brings in the archives that `docker save`, `podman save`, `skopeo copy`
// and `ctr images export` write, plain or compressed, each as a whole or not at
// all. An archive that cannot be imported is part of the error, and does not keep
// the others from it. Images that are there already are replaced.
func (i Importer) Import(ctx context.Context, files ...string) ([]Imported, error) {
	if len(files) == 0 {
		return nil, nil
	}
	// ctr would wait for it.
	if err := i.connect(ctx); err != nil {
		return nil, fmt.Errorf("import images: %w: is waggle-kube running?", err)
	}
	args := []string{"images", "load", "--snapshotter", i.Snapshotter}
	if i.Pin {
		args = append(args, "--label", pinned)
	}
	args = append(args, "--")
	for _, file := range files {
		// For a name such as -x.
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("import %s: %w", file, err)
		}
		args = append(args, path)
	}
	p := Ctr(i.Layout, i.BinDir, os.Environ(), args...)
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env = p.Env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runErr := cmd.Run()

	imported, err := parseImported(&stdout)
	if runErr == nil {
		return imported, err
	}
	if ctx.Err() != nil {
		return imported, fmt.Errorf("import images: %w", ctx.Err())
	}
	return imported, fmt.Errorf("import images: %w", ctrError(runErr, stderr.String()))
}

func (i Importer) connect(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", i.Layout.ContainerdSocket())
	if err != nil {
		return err
	}
	return conn.Close()
}

// ImportPause brings in the image of the pods' sandbox, whatever Pin says.
func (i Importer) ImportPause(ctx context.Context) (err error) {
	// containerd's own folder of temporary files: also ours if /tmp is full.
	f, err := os.CreateTemp(i.Layout.ContainerdDir(), "pause-*.tar")
	if err != nil {
		return fmt.Errorf("import %s: %w", image.PauseName, err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := errors.Join(image.Write(f, image.Pause()), f.Close()); err != nil {
		return fmt.Errorf("import %s: %w", image.PauseName, err)
	}
	i.Pin = true
	_, err = i.Import(ctx, f.Name())
	return err
}

func parseImported(r io.Reader) ([]Imported, error) {
	var all []Imported
	for d := json.NewDecoder(r); ; {
		var one Imported
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, fmt.Errorf("import images: read ctr's answer: %w", err)
		}
		all = append(all, one)
	}
}

// ctrError is the error that ctr wrote, after what it may have logged: it says
// more than that it failed.
func ctrError(err error, stderr string) error {
	_, text, ok := strings.Cut("\n"+strings.TrimSpace(stderr), "\nctr: ")
	if !ok {
		return fmt.Errorf("run ctr: %w: %s", err, strings.TrimSpace(stderr))
	}
	return errors.New(text)
}
