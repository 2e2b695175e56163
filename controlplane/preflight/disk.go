// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	gib = 1 << 30
	// minSpace is what etcd and the first images need, enoughSpace what an
	// ordinary node does.
	minSpace, enoughSpace = gib, 5 * gib
	// The kubelet evicts pods when less than this is free of the file system of
	// images (15%), of the node (10%), or of inodes (5%): its defaults. Ours are
	// one file system.
	evictSpace, evictInodes = 15, 5
)

func (p *probe) dataFolder(context.Context) []Finding {
	dir, err := nearest(p.DataDir)
	if err != nil {
		return fail("set dataDir to a folder that can be made", "%v", err)
	}
	st, err := p.statfs(dir)
	if err != nil {
		return fail("mount the file system, or set dataDir to another one", "statfs %s: %v", dir, err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fail("remount it writable, or set dataDir to a folder on another file system", "%s is on a read-only file system", p.DataDir)
	}
	all := p.space(&st)
	if st.Flags&unix.ST_NOEXEC != 0 {
		all = append(all, warn("remount it with the option exec, or set dataDir to a folder on another file system",
			"%s is mounted noexec: nothing in the pods' volumes can be executed", p.DataDir)...)
	}
	return all
}

func (p *probe) space(st *unix.Statfs_t) []Finding {
	const remedy = "free space, or set dataDir to a folder on a larger file system"
	free, total := st.Bavail*uint64(st.Frsize), st.Blocks*uint64(st.Frsize)
	size := fmt.Sprintf("%.1f GiB", float64(free)/gib)
	switch {
	case free < minSpace:
		return fail(remedy, "%s: %s free, at least 1 GiB is needed", p.DataDir, size)
	case percent(free, total) < evictSpace:
		return warn(remedy, "%s: %s free, which is %d%%: below %d%% the kubelet evicts pods",
			p.DataDir, size, percent(free, total), evictSpace)
	case st.Files > 0 && percent(st.Ffree, st.Files) < evictInodes: // btrfs has no number
		return warn("remove small files, or set dataDir to a folder on another file system",
			"%s: %d%% of the inodes are free: below %d%% the kubelet evicts pods", p.DataDir, percent(st.Ffree, st.Files), evictInodes)
	case free < enoughSpace:
		return warn(remedy, "%s: %s free, 5 GiB are soon used by images", p.DataDir, size)
	}
	return ok("%s: %s free", p.DataDir, size)
}

func percent(part, whole uint64) uint64 {
	return uint64(float64(part) * 100 / float64(max(whole, 1)))
}

// runFolder checks what is to go away with a reboot: processes, sockets, mounts
// are gone then, and files that still name them mislead.
func (p *probe) runFolder(context.Context) []Finding {
	dir, err := nearest(p.RunDir)
	if err != nil {
		return fail("set runDir to a folder that can be made", "%v", err)
	}
	st, err := p.statfs(dir)
	switch {
	case err != nil:
		return fail("set runDir to a folder on a tmpfs", "statfs %s: %v", dir, err)
	case st.Flags&unix.ST_RDONLY != 0:
		return fail("set runDir to a folder on a tmpfs", "%s is on a read-only file system", p.RunDir)
	case st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC:
		return warn("set runDir to a folder on a tmpfs, as /run is with systemd; else remove it at each boot",
			"%s is not on a tmpfs: what it says about processes outlives a reboot", p.RunDir)
	}
	return ok("%s is on a tmpfs", p.RunDir)
}

// nearest is the folder itself or, while it is not there, the one that it would
// be made in.
func nearest(dir string) (string, error) {
	for {
		fi, err := os.Stat(dir)
		switch {
		case err == nil && !fi.IsDir():
			return "", fmt.Errorf("%s is not a folder", dir)
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}

const (
	// etcd's own advice for its writes, at the 99th percentile.
	slowSync = 25 * time.Millisecond
	// Beyond this, half of its writes outlast the time after which it looks for a
	// new leader.
	uselessSync = 500 * time.Millisecond
)

func (p *probe) diskSpeed(ctx context.Context) []Finding {
	dir, err := nearest(p.DataDir)
	if err != nil {
		return nil // dataFolder says so
	}
	times, err := p.syncTimes(ctx, dir)
	if err != nil || len(times) == 0 {
		return fail("make it writable, or set dataDir to another folder", "write to %s: %v", dir, err)
	}
	slices.Sort(times)
	median, worst := times[len(times)/2].Round(10*time.Microsecond), times[len(times)-1].Round(10*time.Microsecond)
	switch {
	case median > uselessSync:
		return fail("set dataDir to a folder on a faster disk (SSD)", "half of the writes to %s take more than %s to reach the disk: etcd cannot work", dir, median)
	case worst > slowSync:
		return warn("set etcd.profile to slow-disk, or dataDir to a folder on an SSD",
			"a write to %s takes up to %s to reach the disk, etcd wants %s", dir, worst, slowSync)
	}
	return ok("a write to %s reaches the disk within %s", dir, worst)
}

// syncTimes writes as etcd does to its log, and says how long each write takes.
// It stops early where even that takes long.
func syncTimes(ctx context.Context, dir string) (times []time.Duration, err error) {
	const (
		writes = 10
		size   = 8 << 10
		budget = 3 * time.Second
	)
	f, err := os.CreateTemp(dir, ".waggle-check-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name()), f.Close()) }()
	block := make([]byte, size)
	for start := time.Now(); len(times) < writes && time.Since(start) < budget && ctx.Err() == nil; {
		before := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("fdatasync: %w", err)
		}
		times = append(times, time.Since(before))
	}
	if len(times) == 0 {
		return nil, ctx.Err()
	}
	return times, nil
}
