// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The drivers that runc and the kubelet make cgroups with: both must use the same.
const (
	DriverSystemd  = "systemd"  // asks systemd for them, which owns cgroup v2 where it runs
	DriverCgroupfs = "cgroupfs" // makes folders
)

// Host is what the machine offers to containers.
type Host struct {
	// CgroupVersion is 1 or 2.
	CgroupVersion int
	// CgroupDriver is DriverSystemd or DriverCgroupfs.
	CgroupDriver string
	// SysResource says whether processes may be shielded from the OOM killer
	// (CAP_SYS_RESOURCE).
	SysResource bool
	// AppArmor says whether the kernel confines processes with it.
	AppArmor bool
	// Snapshotter is Overlayfs, or Native where overlay does not work.
	Snapshotter string
	// NoOverlay is why overlay does not work, nil if it does.
	NoOverlay error
	// RuncPath is the program runc.
	RuncPath string
	// RuncVersion is its version, such as 1.1.5+ds1.
	RuncVersion string
}

// Detect finds out what the machine offers. It tries overlay with a mount in the
// data folder, which must exist, and so it must run as root. The error holds
// everything that keeps containers from running, each with its remedy.
func Detect(ctx context.Context, dataDir string) (Host, error) {
	h, err := detectKernel("/")
	errs := []error{err}

	h.Snapshotter, h.NoOverlay, err = detectSnapshotter(dataDir)
	errs = append(errs, err)

	h.RuncPath, h.RuncVersion, err = detectRunc(ctx)
	errs = append(errs, err)
	return h, errors.Join(errs...)
}

// detectKernel reads what files below root (the file system's) tell.
func detectKernel(root string) (Host, error) {
	var h Host
	var errs []error
	var err error

	h.CgroupVersion, err = detectCgroups(root)
	errs = append(errs, err)
	h.CgroupDriver = DriverCgroupfs
	if h.CgroupVersion == 2 && exists(root, "run/systemd/system") { // sd_booted(3)
		h.CgroupDriver = DriverSystemd
	}
	h.SysResource, err = hasSysResource(root)
	errs = append(errs, err)
	h.AppArmor = exists(root, "sys/kernel/security/apparmor") &&
		strings.HasPrefix(read(root, "sys/module/apparmor/parameters/enabled"), "Y")
	return h, errors.Join(errs...)
}

// hasSysResource says whether this process, and what it starts, has the
// capability for the whole machine: in a user namespace it counts for nothing.
func hasSysResource(root string) (bool, error) {
	status := read(root, "proc/self/status")
	_, caps, ok := strings.Cut(status, "\nCapEff:")
	if !ok {
		return false, errors.New("read /proc/self/status: no capabilities in it: is /proc mounted?")
	}
	caps, _, _ = strings.Cut(caps, "\n")
	effective, err := strconv.ParseUint(strings.TrimSpace(caps), 16, 64)
	if err != nil {
		return false, fmt.Errorf("read /proc/self/status: capabilities: %w", err)
	}
	// All of the 2^32-1 user IDs are their own: this is the first namespace.
	users := strings.Fields(read(root, "proc/self/uid_map"))
	first := len(users) == 3 && users[0] == "0" && users[1] == "0" && users[2] == "4294967295"
	return first && effective&(1<<unix.CAP_SYS_RESOURCE) != 0, nil
}

func exists(root, path string) bool {
	_, err := os.Stat(filepath.Join(root, path))
	return err == nil
}

// read returns a file of the kernel, empty where it cannot be read.
func read(root, path string) string {
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return ""
	}
	return string(bytes.TrimRight(b, "\x00"))
}
