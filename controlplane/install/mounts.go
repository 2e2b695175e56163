// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// unmountBelow unmounts what kubelet and containerd mounted: volumes, root file
// systems of containers, namespaces. The folders themselves, and those right below
// the data folder, may be disks that an administrator mounted: they stay.
func unmountBelow(l layout.Layout, out io.Writer) error {
	// The kubelet mounts its folder upon itself, to have mounts below it shared.
	self := sameDevice(l.KubeletDir(), l.Data)
	ours := func(point string) bool {
		return self && point == l.KubeletDir() || below(point, l.KubeletDir()) || below(point, l.ContainerdDir()) || below(point, l.Run)
	}
	// A mount that is shared appears in several places, and one umount removes it
	// from all of them; what is in use is busy: look again until nothing changes.
	var last []string
	for detached := false; ; {
		points, err := mountPoints(ours)
		if err != nil || len(points) == 0 {
			return err
		}
		flags := unix.UMOUNT_NOFOLLOW
		if slices.Equal(points, last) {
			if detached {
				return fmt.Errorf("unmount %s: it comes back: stop who mounts it", points[0])
			}
			// Out of sight now, and gone when nobody uses it any more.
			flags |= unix.MNT_DETACH
			detached = true
		}
		last = points
		if err := unmount(points, flags, out); err != nil {
			return err
		}
	}
}

// unmount unmounts the innermost first. One that is busy is for the next attempt.
func unmount(points []string, flags int, out io.Writer) error {
	for _, point := range slices.Backward(points) {
		err := unix.Unmount(point, flags)
		switch {
		case err == nil && flags&unix.MNT_DETACH != 0:
			say(out, "detached", point, "it was busy")
		case err == nil:
			say(out, "unmounted", point, "")
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // gone with another one
		case errors.Is(err, unix.EBUSY) && flags&unix.MNT_DETACH == 0:
		default:
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// mountPoints are those that are wanted, outer ones first.
func mountPoints(wanted func(point string) bool) ([]string, error) {
	infos, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return !wanted(m.Mountpoint), false })
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var points []string
	for _, m := range infos {
		points = append(points, m.Mountpoint)
	}
	return points, nil
}

// sameDevice says whether two folders are of one file system. What is not there is of
// none.
func sameDevice(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Stat(a, &sa) == nil && unix.Stat(b, &sb) == nil && sa.Dev == sb.Dev
}

// below says whether path is inside of dir, and not dir itself.
func below(path, dir string) bool {
	return strings.HasPrefix(path, filepath.Clean(dir)+"/")
}
