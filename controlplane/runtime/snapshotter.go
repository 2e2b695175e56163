// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The snapshotters, which give containers their root file system.
const (
	Overlayfs = "overlayfs"
	// Native copies an image's files for each container. It works everywhere.
	Native = "native"
)

// detectSnapshotter tries overlay in a folder that it makes and removes. When
// overlay cannot be used there, reason says why.
func detectSnapshotter(dataDir string) (snapshotter string, reason, err error) {
	dir, err := os.MkdirTemp(dataDir, "overlay-test-")
	if err != nil {
		return "", nil, fmt.Errorf("try overlay: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	reason = tryOverlay(dir)
	switch {
	case reason == nil:
		return Overlayfs, nil, nil
	case errors.Is(reason, unix.EPERM):
		return "", nil, fmt.Errorf("%w: run as root, and let containers mount (CAP_SYS_ADMIN)", reason)
	}
	return Native, reason, nil
}

// tryOverlay removes a file of a lower folder through overlay: what hides it in
// the upper one is what a file system may lack.
func tryOverlay(dir string) (err error) {
	sub := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(sub(name), 0o700); err != nil {
			return fmt.Errorf("try overlay: %w", err)
		}
	}
	if err := os.WriteFile(sub("lower/file"), nil, 0o600); err != nil {
		return fmt.Errorf("try overlay: %w", err)
	}
	// As containerd does it: without escapes for commas and colons in a path.
	options := "lowerdir=" + sub("lower") + ",upperdir=" + sub("upper") + ",workdir=" + sub("work")
	if err := unix.Mount("overlay", sub("merged"), "overlay", 0, options); err != nil {
		return fmt.Errorf("try overlay in %s: mount: %w", filepath.Dir(dir), err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(sub("merged"), unix.MNT_DETACH)) }()
	if err := os.Remove(sub("merged/file")); err != nil {
		return fmt.Errorf("try overlay in %s: %w", filepath.Dir(dir), err)
	}
	return nil
}
