// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// partPattern is how an archive is called until it is complete. Its writer has it
// locked: one that nobody has locked was left by a process that died.
const partPattern = ".waggle-kube-*.part"

// writePart writes a file for its owner's eyes under another name first, and names
// it when all of it is on the disk.
func writePart(path string, write func(io.Writer) error) (err error) {
	f, err := createPart(filepath.Dir(path))
	if err != nil {
		return err
	}
	named := false
	defer func() {
		if !named {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		f.Close() // with it goes the lock
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Sync()); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // NFS, and other file systems that cannot
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", f.Name(), path, err)
	}
	named = true
	return syncDir(filepath.Dir(path))
}

func createPart(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, partPattern) // mode 0600
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), os.Remove(f.Name()), f.Close())
		}
		// Another process may have taken it for left behind just before.
		if _, err := os.Lstat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
			return f, nil
		}
		f.Close()
	}
}

// removeParts removes what interrupted savings have left in a folder.
func removeParts(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if left, _ := filepath.Match(partPattern, e.Name()); !left { // the pattern is well-formed
			continue
		}
		if err := removePart(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what an interrupted snapshot has left: %w", err)
		}
	}
	return nil
}

func removePart(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // it is being written
	}
	return os.Remove(path)
}

// syncDir makes the names in a folder last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// roomRemedy says what to do about a full disk, or nothing.
func roomRemedy(err error, dir string) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Sprintf(": free space in the file system of %s, or use another one", dir)
	}
	return ""
}
