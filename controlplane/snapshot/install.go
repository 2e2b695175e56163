// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/waggle-net/waggle/controlplane/snapshot/pending"
)

// install puts a complete state into its place, and what was there aside. What is
// still in the folder of the new state has not got its place yet: this is how it
// goes on after an interruption.
func (r *Restorer) install() (*Restored, error) {
	ready := pending.Dir(r.Layout)
	p, err := readPlan(filepath.Join(ready, planName))
	if err != nil {
		return nil, err
	}
	aside := filepath.Join(r.Layout.Data, p.Aside)
	for _, name := range slices.Backward(replaced) {
		if !exists(filepath.Join(ready, name)) || !exists(filepath.Join(r.Layout.Data, name)) {
			continue
		}
		if err := r.mkdir(aside); err != nil {
			return nil, err
		}
		if err := r.rename(filepath.Join(r.Layout.Data, name), filepath.Join(aside, name)); err != nil {
			return nil, err
		}
	}
	for _, name := range replaced {
		if !exists(filepath.Join(ready, name)) {
			continue
		}
		if err := r.rename(filepath.Join(ready, name), filepath.Join(r.Layout.Data, name)); err != nil {
			return nil, err
		}
	}
	// With this all is done. Under its other name the rest is removed, at the latest
	// by the next restore.
	if err := r.rename(ready, r.staging().Data); err != nil {
		return nil, err
	}
	restored := &Restored{Manifest: p.Manifest}
	if exists(aside) {
		restored.Aside = aside
	}
	_ = r.remove(r.staging().Data)
	return restored, nil
}

func readPlan(path string) (*plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if p.Manifest == nil || p.Aside != filepath.Base(p.Aside) {
		return nil, fmt.Errorf("read %s: it is incomplete", path)
	}
	return &p, nil
}

// exists errs to the side of yes: what cannot be looked at cannot be moved either,
// and that says why.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (r *Restorer) may(op, path string) error {
	if r.step == nil {
		return nil
	}
	return r.step(op, path)
}

// mkdir makes a folder for its owner alone, if it is missing.
func (r *Restorer) mkdir(path string) error {
	if err := r.may("mkdir", path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (r *Restorer) write(path string, mode fs.FileMode, content func(io.Writer) error) error {
	if err := r.may("write", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(content(f), f.Chmod(mode), f.Sync(), f.Close())
}

// rename moves a file or folder. Both names have changed for good when it returns.
func (r *Restorer) rename(from, to string) error {
	if err := r.may("rename", to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(to)), syncDir(filepath.Dir(from)))
}

func (r *Restorer) remove(path string) error {
	if !exists(path) {
		return nil
	}
	if err := r.may("remove", path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// syncTree has all that is below a folder on the disk.
func (r *Restorer) syncTree(dir string) error {
	if err := r.may("sync", dir); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path) // files, too
	})
}
