// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Down removes a lab: its processes, mounts, namespaces, cgroups and folders. It
// goes by what it finds and not by what Up recorded. Removing a lab that
// does not exist succeeds.
func Down(ctx context.Context, name string) error {
	if name == "" {
		name = defaultName
	}
	if err := errors.Join(validateName(name), requireRoot(), checkOutside()); err != nil {
		return fmt.Errorf("down lab: %w", err)
	}
	unlock, err := lockLab(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := down(ctx, name); err != nil {
		return fmt.Errorf("down lab %s: %w", name, err)
	}
	return nil
}

// down is Down for a caller that holds the lock. The order matters: processes
// hold mounts, and namespaces are found through their mounts.
func down(ctx context.Context, name string) error {
	m, err := findMembers(name)
	if err != nil {
		return err
	}
	if err := m.killAll(ctx); err != nil {
		return err
	}
	// Here and not by the end of the router's namespace, which the kernel takes apart
	// some time later.
	if err := removeMachineLink(name); err != nil {
		return err
	}
	if err := errors.Join(unmountAll(name), m.removeCgroups(ctx), removeKubeCgroups(ctx, name)); err != nil {
		return err
	}
	// The folder was a tmpfs: with that unmounted it is empty. Nothing here removes
	// a tree of files, so nothing can follow a forgotten mount.
	if err := ignoreGone(os.Remove(labDir(name))); err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	return removeNetNSFiles(name)
}

// Names returns the labs of which anything is there: complete ones, and what
// interrupted ones left.
func Names() ([]string, error) {
	seen := map[string]bool{}
	for _, dir := range []string{stateRoot, filepath.Dir(labCgroup("x"))} {
		entries, err := os.ReadDir(dir)
		if ignoreGone(err) != nil {
			return nil, fmt.Errorf("list labs: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && validName.MatchString(e.Name()) {
				seen[e.Name()] = true
			}
		}
	}
	entries, _ := os.ReadDir(netnsRoot) // absent: no lab is there
	for _, e := range entries {
		if name, _, ok := strings.Cut(e.Name(), "-"); ok && netnsNames(name).MatchString(e.Name()) {
			seen[name] = true
		}
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// labMounts returns the mounts that belong to a lab, in mountinfo's order.
func labMounts(name string) ([]mountEntry, error) {
	mounts, err := mountsBelow("/run")
	if err != nil {
		return nil, err
	}
	names := netnsNames(name)
	return slices.DeleteFunc(mounts, func(m mountEntry) bool {
		isNetNS := filepath.Dir(m.point) == netnsRoot && names.MatchString(filepath.Base(m.point))
		return !isNetNS && !within(m.point, labDir(name))
	}), nil
}

// unmountAll unmounts until nothing is left. A mount that is busy, because
// somebody reads a log, is detached: it goes with its last user.
func unmountAll(name string) error {
	for {
		mounts, err := labMounts(name)
		if err != nil || len(mounts) == 0 {
			return err
		}
		for _, m := range slices.Backward(mounts) {
			err := unix.Unmount(m.point, unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EBUSY) {
				err = unix.Unmount(m.point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
			}
			// One unmount may take others with it, through propagation.
			gone := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
			if err != nil && !gone {
				return fmt.Errorf("unmount %s: %w", m.point, err)
			}
		}
		after, err := labMounts(name)
		if err != nil {
			return err
		}
		if len(after) >= len(mounts) {
			return fmt.Errorf("unmount %s: covered by another mount", after[0].point)
		}
	}
}

func removeNetNSFiles(name string) error {
	entries, err := os.ReadDir(netnsRoot)
	if ignoreGone(err) != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	names := netnsNames(name)
	for _, e := range entries {
		if !names.MatchString(e.Name()) {
			continue
		}
		if err := ignoreGone(os.Remove(filepath.Join(netnsRoot, e.Name()))); err != nil {
			return fmt.Errorf("remove network namespace: %w", err)
		}
	}
	return removeNetNSRoot()
}
