// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// overlayfs tries it where images will be: a file system may not carry it (NFS,
// overlay itself, XFS without ftype) although the kernel has it.
func (p *probe) overlayfs(context.Context) []Finding {
	dir, err := nearest(p.DataDir)
	if err != nil {
		return nil // dataFolder says so
	}
	if err := p.tryOverlay(dir); err != nil {
		return warn("modprobe overlay, or set dataDir to a folder on ext4, or XFS with ftype=1",
			"overlayfs does not work in %s (%v): images are copied for each container, slowly", dir, err)
	}
	return ok("works in %s", dir)
}

// tryOverlay mounts an overlay below dir and writes through it. The mount lives
// in a mount namespace of a thread that ends with it: whatever happens, nobody
// else sees it.
func tryOverlay(dir string) error {
	work, err := os.MkdirTemp(dir, ".waggle-check-")
	if err != nil {
		return err
	}
	return errors.Join(onThrowawayThread(func() error { return overlayInNamespace(work) }), os.RemoveAll(work))
}

// onThrowawayThread runs f on a thread that ends with it. That is never the main
// one, which cannot end, and whose mounts are what /proc/self shows.
func onThrowawayThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			result <- onThrowawayThread(f) // on another one, as this one is held
			runtime.UnlockOSThread()
			return
		}
		result <- f() // locked to the end: the thread goes, too
	}()
	return <-result
}

func overlayInNamespace(work string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(work, "lower/file"), []byte("lower"), 0o600); err != nil {
		return err
	}
	// Paths relative to the folder: the data folder's may hold a colon or a comma.
	if err := unix.Chdir(work); err != nil { // of this thread alone: unshare took CLONE_FS along
		return err
	}
	if err := unix.Mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err := os.WriteFile(filepath.Join(work, "merged/file"), []byte("upper"), 0o600)
	if err == nil {
		err = os.Remove(filepath.Join(work, "merged/file")) // makes a white-out
	}
	return errors.Join(err, unix.Unmount(filepath.Join(work, "merged"), 0))
}
