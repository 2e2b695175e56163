// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

// mounts in the order a node would have them: /sys before what hangs below it.
var mounts = []struct{ fstype, target, options string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"bpf", "/sys/fs/bpf", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
	{"tmpfs", "/tmp", "mode=1777"},
	{"tmpfs", "/run", "mode=0755"},
}

func mountAll() error {
	for _, m := range mounts {
		// The mount point exists already under sysfs, which forbids mkdir.
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, 0, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return nil
}

// loadModules loads files in the order given; the host resolved dependencies.
func loadModules(names []string) error {
	for _, name := range names {
		if err := loadModule(filepath.Join(wire.ModuleDir, name)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// A module that another one pulled in through request_module is no error.
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// showWarnings lets kernel warnings reach the console from here on. The boot
// itself is quiet, because emulated machines warn about their hardware, but a
// warning while the payload runs belongs beside the failing test.
func showWarnings() error {
	// 5 shows KERN_WARNING (4) and worse: the level printed is below the first
	// number.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("5"), 0); err != nil {
		return fmt.Errorf("set console level: %w", err)
	}
	return nil
}
