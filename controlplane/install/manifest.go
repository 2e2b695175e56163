// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// manifestVersion is that of the manifest's format.
const manifestVersion = 1

// manifest records what was, or is about to be, written: Uninstall removes exactly
// that. While a file is being replaced it has two hashes, the old and the new.
type manifest struct {
	Version int                 `json:"version"`
	Files   map[string][]string `json:"files"`             // path -> SHA-256 of contents that are ours
	Links   map[string][]string `json:"links"`             // path -> targets that are ours
	Dirs    []string            `json:"dirs"`              // that were not there, outer ones first
	Config  string              `json:"config,omitempty"`  // the configuration among the files
	Restart bool                `json:"restart,omitempty"` // the service runs what was there before
}

func (d *disk) readManifest(prefix string) (*manifest, error) {
	path := filepath.Join(prefix, manifestName)
	m := &manifest{Version: manifestVersion}
	b, err := os.ReadFile(d.path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, m); err != nil {
			return nil, fmt.Errorf("read %s: %w: remove it, and then what it was for, by hand", path, err)
		}
		if m.Version > manifestVersion {
			return nil, fmt.Errorf("%s is of a newer waggle-kube: use that one", path)
		}
	}
	if m.Files == nil {
		m.Files = map[string][]string{}
	}
	if m.Links == nil {
		m.Links = map[string][]string{}
	}
	return m, nil
}

func (d *disk) writeManifest(prefix string, m *manifest) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(prefix, manifestName)
	if old, err := os.ReadFile(d.path(path)); err == nil && string(old) == string(b)+"\n" {
		return nil
	}
	if err := d.replace(path, 0o644, strings.NewReader(string(b)+"\n"), func() error { return nil }); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// recordFile adds what is about to be written.
func (d *disk) recordFile(m *manifest, f file) {
	if !slices.Contains(m.Files[f.path], f.hash) {
		m.Files[f.path] = append(m.Files[f.path], f.hash)
	}
	d.recordDirs(m, f.path)
}

// recordLink adds a link that is about to be made.
func (d *disk) recordLink(m *manifest, l link) {
	if !slices.Contains(m.Links[l.path], l.target) {
		m.Links[l.path] = append(m.Links[l.path], l.target)
	}
	d.recordDirs(m, l.path)
}

// recordDirs adds the folders that have to be made for a path, outer ones first.
func (d *disk) recordDirs(m *manifest, path string) {
	var missing []string
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(d.path(dir)); err == nil || slices.Contains(m.Dirs, dir) {
			break
		}
		missing = append(missing, dir)
	}
	slices.Reverse(missing)
	m.Dirs = append(m.Dirs, missing...)
}

// removeInstalled removes what a manifest records, then the manifest. What was
// changed since stays, and so do folders that hold something else.
func (d *disk) removeInstalled(prefix string, m *manifest, keep func(path string) bool) error {
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(m.Links)) {
		target, err := os.Readlink(d.path(path))
		ours := err == nil && slices.Contains(m.Links[path], target)
		errs = append(errs, d.removeOne(path, ours))
	}
	for _, path := range slices.Sorted(maps.Keys(m.Files)) {
		if keep(path) {
			say(d.out, "kept", path, "")
			continue
		}
		hash, err := d.hashAt(path)
		errs = append(errs, d.removeOne(path, err == nil && slices.Contains(m.Files[path], hash)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	path := filepath.Join(prefix, manifestName)
	if err := d.step("remove", path); err != nil {
		return err
	}
	return errors.Join(remove(d.path(temporary(path))), d.removeDirs(prefix, m, path))
}

func (d *disk) removeOne(path string, ours bool) error {
	if err := d.step("remove", path); err != nil {
		return err
	}
	if err := remove(d.path(temporary(path))); err != nil {
		return err
	}
	if _, err := os.Lstat(d.path(path)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !ours {
		say(d.out, "kept", path, "somebody else wrote or changed it")
		return nil
	}
	if err := remove(d.path(path)); err != nil {
		return err
	}
	say(d.out, "removed", path, "")
	return nil
}

// removeDirs removes folders that are empty but for the manifest, which goes
// before the folder that it is in.
func (d *disk) removeDirs(prefix string, m *manifest, manifestPath string) error {
	for _, dir := range slices.Backward(m.Dirs) {
		if dir == prefix || strings.HasPrefix(prefix, dir+"/") {
			continue // after the manifest
		}
		_ = os.Remove(d.path(dir)) // stays if it holds something
	}
	if err := remove(d.path(manifestPath)); err != nil {
		return err
	}
	for dir := prefix; dir == prefix || slices.Contains(m.Dirs, dir); dir = filepath.Dir(dir) {
		_ = os.Remove(d.path(dir)) // likewise
	}
	return nil
}
