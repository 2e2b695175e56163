// SPDX-License-Identifier: Apache-2.0

package install

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// disk changes files below a root folder, and says what it did.
type disk struct {
	root string
	out  io.Writer
	step func(what, path string) error
}

// file is one to be written: from source, or else with text.
type file struct {
	path         string
	mode         fs.FileMode
	source, text string
	hash         string
}

// link is a symbolic link to be made.
type link struct{ path, target string }

func (d *disk) path(p string) string { return filepath.Join(d.root, p) }

// temporary is where a file is written before it gets its name. The name is the
// same each time, so that one that was left behind is found.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".waggle-new")
}

// lock keeps two installations apart. The prefix must be there.
func (d *disk) lock(prefix string) (unlock func(), err error) {
	f, err := os.Open(d.path(prefix))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w: wait until the other install or uninstall is done", prefix, err)
	}
	return func() { f.Close() }, nil
}

func (f *file) open() (io.ReadCloser, error) {
	if f.source == "" {
		return io.NopCloser(strings.NewReader(f.text)), nil
	}
	return os.Open(f.source)
}

// plan returns those files that need to be written, with their hashes. It writes
// nothing.
func (d *disk) plan(m *manifest, files []file) ([]file, error) {
	var stale []file
	for _, f := range files {
		r, err := f.open()
		if err != nil {
			return nil, err
		}
		f.hash, err = hashOf(r)
		r.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.source, err)
		}
		have, err := d.hashAt(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			stale = append(stale, f)
		case err != nil:
			return nil, err
		case have == f.hash:
			if m.Files[f.path] == nil { // as ours would be: left by a lost manifest
				stale = append(stale, f)
			} else {
				m.Files[f.path] = []string{f.hash}
			}
		case slices.Contains(m.Files[f.path], have):
			stale = append(stale, f)
		default:
			say(d.out, "kept", f.path, "somebody else wrote or changed it")
		}
	}
	return stale, nil
}

// irregular is the hash of what is no regular file, which nothing of ours has.
const irregular = "not a regular file"

func (d *disk) hashAt(path string) (string, error) {
	fi, err := os.Lstat(d.path(path))
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() {
		return irregular, nil
	}
	f, err := os.Open(d.path(path))
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hashOf(f)
}

func hashOf(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}

// put writes a file under its name in one step, durably. A copy whose source
// changed meanwhile is refused, as its record would be wrong.
func (d *disk) put(f file) error {
	r, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if err := d.replace(f.path, f.mode, io.TeeReader(r, h), func() error {
		if hex.EncodeToString(h.Sum(nil)) != f.hash {
			return fmt.Errorf("%s changed while it was copied", f.source)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	say(d.out, "wrote", f.path, "")
	return nil
}

func (d *disk) replace(path string, mode fs.FileMode, content io.Reader, check func() error) (err error) {
	if err := d.step("create", path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.path(path)), 0o755); err != nil {
		return err
	}
	tmp := d.path(temporary(path))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(tmp))
		}
	}()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := errors.Join(check(), f.Chmod(mode), f.Sync()); err != nil {
		return err
	}
	if err := d.step("rename", path); err != nil {
		return err
	}
	if err := os.Rename(tmp, d.path(path)); err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(filepath.Dir(d.path(path))))
}

// needed says whether a link is to be made: not where it is already, and not over
// what somebody else put there.
func (d *disk) needed(m *manifest, l link) bool {
	have, err := os.Readlink(d.path(l.path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true
	case err == nil && have == l.target:
		return false
	case err == nil && slices.Contains(m.Links[l.path], have):
		return true
	}
	say(d.out, "kept", l.path, "somebody else made it, so it does not lead to "+l.target)
	return false
}

// link makes a link in one step, so that there is always one of the old and the
// new.
func (d *disk) link(l link) error {
	tmp := d.path(temporary(l.path))
	if err := d.step("symlink", l.path); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(tmp), 0o755), remove(tmp), os.Symlink(l.target, tmp)); err != nil {
		return err
	}
	if err := d.step("rename", l.path); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(tmp, d.path(l.path)), syncDir(filepath.Dir(tmp))); err != nil {
		return err
	}
	say(d.out, "linked", l.path, "to "+l.target)
	return nil
}

// remove is os.Remove, for what may be gone.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
