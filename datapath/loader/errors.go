// SPDX-License-Identifier: Apache-2.0

package loader

import "errors"

// ErrNotBPFFS says that the place for pins is no bpffs.
var ErrNotBPFFS = errors.New("not a bpf file system")

// ErrPrivateBPFFS says that pins would vanish with this process's mounts.
var ErrPrivateBPFFS = errors.New("bpf file system is private to this mount namespace")

// ErrNotCgroup2 says that socket programs have nothing to attach to.
var ErrNotCgroup2 = errors.New("not a cgroup v2 folder")

// ErrKernelTooOld says that the kernel lacks something there is no way around.
var ErrKernelTooOld = errors.New("kernel lacks a needed feature")

// ErrLayout says that a pinned map was made by a release that this one cannot
// take over from.
var ErrLayout = errors.New("pinned map has another layout")

// ErrNotAttached says that a device or cgroup does not carry our program, or
// not where it must be.
var ErrNotAttached = errors.New("program not attached")
