// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/waggle-net/waggle/controlplane/runtime"
)

// imports brings images into containerd once it runs: that of the pods' sandbox,
// without which there is no pod, and the archives in the folder of images.
type imports struct {
	importer runtime.Importer
	log      *slog.Logger

	mu   sync.Mutex
	done bool
}

// once imports if that has not been done. An archive of a user's that cannot be
// imported is logged, and does not keep the node from starting.
func (i *imports) once(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.done {
		return nil
	}
	if err := i.importer.ImportPause(ctx); err != nil {
		return err
	}
	i.done = true
	files, err := archives(i.importer.Layout.ImagesDir())
	if err != nil {
		return err
	}
	imported, err := i.importer.Import(ctx, files...)
	for _, one := range imported {
		i.log.Info("imported images", "file", one.File, "images", one.Images)
	}
	if err != nil {
		i.log.Error("some archives of images were not imported", "err", err)
	}
	return nil
}

// archives are the regular files in a folder that do not begin with a dot.
func archives(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list archives of images: %w", err)
	}
	var files []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name()[0] != '.' {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}
