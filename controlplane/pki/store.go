// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	folderMode = 0o700
	secretMode = 0o600 // whatever holds a private key
	publicMode = 0o644

	// pending is what a file's name ends in until its content is on the disk.
	// The name is fixed: what an interruption left is overwritten, not gathered.
	pending = ".new"
)

// store changes files so that an interruption at any point, a power cut included,
// leaves the old content or the new one under a file's name. There is one writer
// at a time, who holds the lock of the data folder.
type store struct {
	changes []Change

	// step is called before each change of the disk, and prevents it by an
	// error. Nil outside of tests.
	step func(op, path string) error

	// noSync leaves it to the kernel when content gets to the disk. False outside
	// of tests, for which the page cache lasts long enough.
	noSync bool
}

func (s *store) may(op, path string) error {
	if s.step == nil {
		return nil
	}
	return s.step(op, path)
}

// record says that a file was changed.
func (s *store) record(path, reason string, until time.Time) {
	s.changes = append(s.changes, Change{File: path, Reason: reason, Until: until})
}

// folder makes a folder that only its owner may enter.
func (s *store) folder(path string) error {
	if err := s.may("mkdir", path); err != nil {
		return err
	}
	// What is above holds volumes of pods, too, whose users may have to pass.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := os.Mkdir(path, folderMode); err == nil {
		return s.syncFolder(filepath.Dir(path))
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make folder: %w", err)
	}
	return s.restrict(path, folderMode)
}

// restrict takes the permissions from a file, if there is one, that are beyond
// mode.
func (s *store) restrict(path string, mode fs.FileMode) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read permissions: %w", err)
	}
	had := info.Mode().Perm()
	if had&^mode == 0 || info.IsDir() != (mode == folderMode) { // a folder in a file's place is told by whoever reads it
		return nil
	}
	if err := s.may("chmod", path); err != nil {
		return err
	}
	if err := os.Chmod(path, had&mode); err != nil {
		return fmt.Errorf("repair permissions: %w", err)
	}
	s.record(path, fmt.Sprintf("permissions %#o were too open, now %#o: if others have accounts here, they may know its content", had, had&mode), time.Time{})
	return nil
}

// write gives a file its content.
func (s *store) write(path string, data []byte, mode fs.FileMode) error {
	if err := s.stage(path, data, mode); err != nil {
		return err
	}
	return s.commit(path)
}

// stage writes the content that commit gives the file.
func (s *store) stage(path string, data []byte, mode fs.FileMode) error {
	if err := s.discard(path); err != nil {
		return err
	}
	if err := s.fill(path+pending, data, mode); err != nil {
		_ = s.discard(path) // the first error tells more
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (s *store) fill(path string, data []byte, mode fs.FileMode) error {
	if err := s.may("create", path); err != nil {
		return err
	}
	// O_EXCL: never through a link that somebody left there.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.may("write", path); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // a umask may have taken too much
		return err
	}
	if err := s.sync(f); err != nil {
		return err
	}
	return f.Close()
}

// commit names what stage wrote.
func (s *store) commit(path string) error {
	if err := s.may("rename", path); err != nil {
		return err
	}
	if err := os.Rename(path+pending, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return s.syncFolder(filepath.Dir(path))
}

// discard removes what an interruption left of a file that was never named.
func (s *store) discard(path string) error {
	if _, err := os.Lstat(path + pending); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.may("remove", path+pending); err != nil {
		return err
	}
	if err := os.Remove(path + pending); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is left of an interrupted write: %w", err)
	}
	return nil
}

// syncFolder makes names last: a rename alone may be lost by a power cut.
func (s *store) syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := s.sync(d); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

func (s *store) sync(f *os.File) error {
	if err := s.may("sync", f.Name()); err != nil || s.noSync {
		return err
	}
	return f.Sync()
}
