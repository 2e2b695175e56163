// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// What package layout puts right into a folder.
var (
	dataNames = names(func(l layout.Layout) []string {
		return []string{
			l.VersionFile(), l.LockFile(), l.PKIDir(), l.KubeconfigDir(), l.EncryptionConfig(), l.EtcdDir(),
			l.GeneratedDir(), l.WaggledDir(), l.KubeletDir(), l.ContainerdDir(), l.ImagesDir(), l.SnapshotsDir(), l.LogDir(),
		}
	})
	runNames = names(func(l layout.Layout) []string {
		return []string{
			l.ContainerdState(), filepath.Dir(l.ProcessFile("x")),
			l.Socket("supervisor"), l.Socket("control-plane"), l.Socket("node"),
		}
	})
)

func names(paths func(layout.Layout) []string) []string {
	var names []string
	for _, p := range paths(layout.Layout{Data: "/d", Run: "/r"}) {
		names = append(names, filepath.Base(p))
	}
	return names
}

// isDataFolder says whether a folder with something in it is a data folder: one
// with a version, or with nothing but what a first start makes before it.
func isDataFolder(dir string, entries []os.DirEntry) bool {
	b, err := os.ReadFile(layout.Layout{Data: dir}.VersionFile())
	var version struct{ Layout int }
	if err == nil && json.Unmarshal(b, &version) == nil && version.Layout > 0 {
		return true
	}
	return !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !slices.Contains(dataNames, e.Name()) })
}

// isRunFolder says whether a folder with something in it is a run folder.
func isRunFolder(_ string, entries []os.DirEntry) bool {
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return slices.Contains(runNames, e.Name()) })
}

// notOurs are folders that a typing error names, and that nobody gives to one
// program.
var notOurs = []string{
	"/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc",
	"/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local",
	"/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share", "/var", "/var/cache", "/var/lib",
	"/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/log", "/var/run", "/var/spool", "/var/tmp",
}

// ownFolder returns the folder without symbolic links in its path, if it is one
// to be removed as a whole: not one of the system's, and it holds something that
// says that it is ours, or nothing. One that is not there is fine.
func ownFolder(path string, is func(dir string, entries []os.DirEntry) bool) (string, error) {
	if !filepath.IsAbs(path) || path != filepath.Clean(path) {
		return "", fmt.Errorf("%q is not an absolute path without dots", path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		resolved, err = path, nil
	}
	if err != nil {
		return "", err
	}
	for _, p := range []string{path, resolved} {
		if p == "/" || slices.Contains(notOurs, p) || strings.Count(p, "/") < 2 {
			return "", fmt.Errorf("%s belongs to the system, and is never removed: is it the right one?", p)
		}
	}
	entries, err := os.ReadDir(resolved)
	if errors.Is(err, fs.ErrNotExist) {
		return resolved, nil
	}
	if err != nil {
		return "", err
	}
	if len(entries) > 0 && !is(resolved, entries) {
		return "", fmt.Errorf("%s does not look like a folder of waggle-kube's: remove it yourself if you do not need it", resolved)
	}
	return resolved, nil
}

// removeFolder removes a folder with everything in it, the entry named last at
// the end. It follows no symbolic link, and enters no mount.
func removeFolder(path, last string, out io.Writer) error {
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == fs.ModeSymlink {
		say(out, "kept", path, "it is a link to a folder that is gone")
		return nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := empty(fd, path, last); err != nil {
		return err
	}
	switch err := os.Remove(path); {
	case errors.Is(err, unix.EBUSY):
		say(out, "emptied", path, "it is a mount of its own")
	case err != nil:
		return err
	default:
		say(out, "removed", path, "")
	}
	return nil
}

// empty removes what is in a folder. It goes on after an error, so that one file
// does not keep all others.
func empty(fd int, path, last string) error {
	names, err := entries(fd)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	var errs []error
	for _, name := range names {
		if name != last {
			errs = append(errs, removeAt(fd, path, name))
		}
	}
	if err := errors.Join(errs...); err != nil || !slices.Contains(names, last) {
		return err
	}
	return removeAt(fd, path, last)
}

// entries reads through a descriptor of its own: that of a folder has a place.
func entries(fd int) ([]string, error) {
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

func removeAt(dir int, parent, name string) error {
	path := filepath.Join(parent, name)
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) {
		var fd int
		if fd, err = openBelow(dir, name); err == nil {
			inside := empty(fd, path, "")
			unix.Close(fd)
			if inside != nil {
				return inside
			}
			err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		}
	}
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY):
		return fmt.Errorf("remove %s: it is a mount that is not ours: unmount it, or empty it yourself", path)
	}
	return &fs.PathError{Op: "remove", Path: path, Err: err}
}

// openBelow opens a folder only if it is of the same mount.
func openBelow(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
		})
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}
