// SPDX-License-Identifier: Apache-2.0

// Package pending tells that the restore of a snapshot was interrupted while it put
// files into their places. It is apart from the rest, which needs etcd's code, for
// the supervisor to ask before it starts anything.
package pending

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Dir is there from the moment that a restored state is complete on the disk until
// all of it is in its place.
func Dir(l layout.Layout) string { return filepath.Join(l.Data, "restore.ready") }

// Check returns an error if a restore has to be finished first: what is in the data
// folder is of two clusters then. The caller has the folder's lock.
func Check(l layout.Layout) error {
	_, err := os.Lstat(Dir(l))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for an interrupted restore: %w", err)
	}
	return fmt.Errorf("the restore of a snapshot into %s was interrupted: run `waggle-kube snapshot restore` with the same file again, which finishes it", l.Data)
}
