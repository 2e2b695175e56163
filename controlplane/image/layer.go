// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// writeLayer writes the files as a layer, sorted, each folder before what is in it.
func writeLayer(w io.Writer, files []File) error {
	all := make(map[string]File)
	for _, f := range files {
		if !fs.ValidPath(f.Path) || f.Path == "." {
			return fmt.Errorf("add file %q: not a path from the root, without a leading slash", f.Path)
		}
		if _, twice := all[f.Path]; twice {
			return fmt.Errorf("add file %q: it is there already", f.Path)
		}
		all[f.Path] = f
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			switch parent, ok := all[dir]; {
			case !ok:
				all[dir] = File{Path: dir, Mode: 0o755, Folder: true}
			case !parent.Folder:
				return fmt.Errorf("add file %q: %q is not a folder", f.Path, dir)
			}
		}
	}
	sorted := make([]File, 0, len(all))
	for _, f := range all {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, byPath)
	return writeTar(w, sorted)
}

func byPath(a, b File) int { return strings.Compare(a.Path, b.Path) }
