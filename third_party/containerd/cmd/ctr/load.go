// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/ctr/commands"

	"github.com/waggle-net/waggle/third_party/containerd/internal/load"
)

// loadCommand does what `ctr images import` does, with three differences: of an
// archive that is damaged, or for another platform, nothing is left; the archive
// may be compressed; and the answer is for programs to read.
var loadCommand = &cli.Command{
	Name:      "load",
	Usage:     "Load archives of images, each as a whole or not at all",
	ArgsUsage: "FILE...",
	Description: `Loads the images of archives as "docker save", "podman save", "skopeo copy"
and "ctr images export" write them (Docker or OCI; plain, gzip or zstd), for this
machine's platform, and unpacks them.

Writes a line of JSON for each archive that was loaded:
{"file":"FILE","images":["NAME",...]}. Archives that cannot be loaded are errors,
and do not keep the others from it.`,
	Flags: append([]cli.Flag{commands.LabelFlag}, commands.SnapshotterFlags...),
	// As in the other commands: a label may hold a comma.
	DisableSliceFlagSeparator: true,
	Action:                    loadFiles,
}

func loadFiles(ctx context.Context, cmd *cli.Command) error {
	files := cmd.Args().Slice()
	if len(files) == 0 {
		return errors.New("name the archives to load")
	}
	c, ctx, cancel, err := commands.NewClient(ctx, cmd)
	if err != nil {
		return err
	}
	defer cancel()
	defer c.Close()

	opts := load.Options{
		Snapshotter: cmd.String("snapshotter"),
		Labels:      commands.LabelArgs(cmd.StringSlice("label")),
	}
	out := json.NewEncoder(os.Stdout)
	var errs []error
	for _, file := range files {
		names, err := loadFile(ctx, c, file, opts)
		if err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", file, err))
			continue
		}
		if err := out.Encode(map[string]any{"file": file, "images": names}); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func loadFile(ctx context.Context, c *client.Client, file string, opts load.Options) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return load.Archive(ctx, c, f, opts)
}
