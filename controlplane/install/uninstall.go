// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// UninstallOptions say what to take off the machine.
type UninstallOptions struct {
	// Root and Prefix are those of Options. With Root, nothing runs: only what
	// Install wrote is removed.
	Root, Prefix string
	// Layout is the node's. Required.
	Layout layout.Layout
	// CgroupRoot is the cgroup that pods' cgroups are in. Default: the root.
	CgroupRoot string
	// KeepData leaves the data folder, the pods' logs and the configuration.
	KeepData bool
	// Stop ends every process of the node, its pods among them, and returns when
	// they have ended. It is called before anything is removed, and may find
	// nothing to stop. Required without Root.
	Stop func(context.Context) error
	// Cleanup takes the datapath off the kernel, after Stop. Default: nothing.
	Cleanup func(context.Context) error
	// Out is told each step when it is done. Required.
	Out io.Writer

	system // for tests
}

// Uninstall stops the node and removes what it and Install left on the machine:
// mounts, cgroups, network namespaces, folders, the service and its programs. What
// is gone already is no error, so it can be repeated; what cannot be told to be
// ours stays, and is named. The programs go last: as long as anything is left of
// the node they are there to try again.
func Uninstall(ctx context.Context, o UninstallOptions) error {
	setDefault(&o.Prefix, DefaultPrefix)
	o.setDefaults()
	if o.Root == "" {
		if err := o.removeNode(ctx); err != nil {
			return fmt.Errorf("uninstall waggle-kube: %w", err)
		}
	}
	if err := o.removeFiles(ctx); err != nil {
		return fmt.Errorf("uninstall waggle-kube: %w", err)
	}
	return nil
}

// removeNode takes everything off that running a node left.
func (o *UninstallOptions) removeNode(ctx context.Context) error {
	data, err := ownFolder(o.Layout.Data, isDataFolder)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	run, err := ownFolder(o.Layout.Run, isRunFolder)
	if err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	if err := o.disable(ctx); err != nil {
		return err
	}
	// They are known by files that go.
	l := layout.Layout{Data: data, Run: run}
	left := findLeftovers(l)
	if err := o.Stop(ctx); err != nil {
		return fmt.Errorf("stop the node: %w: nothing was removed", err)
	}
	if o.Cleanup != nil {
		if err := o.Cleanup(ctx); err != nil {
			return fmt.Errorf("clean up the datapath: %w: try again", err)
		}
	}
	if err := errors.Join(
		left.removeNamespaces(o.Out),
		unmountBelow(l, o.Out),
		removeCgroups(ctx, o.CgroupRoot, o.Out),
	); err != nil {
		return err
	}
	if err := o.stopSlice(ctx); err != nil {
		return err
	}
	if o.KeepData {
		say(o.Out, "kept", data, "")
	} else if err := errors.Join(left.removeLogs(o.Out), removeFolder(data, filepath.Base(l.VersionFile()), o.Out)); err != nil {
		return err
	}
	return removeFolder(run, "", o.Out)
}

// disable has systemd forget the service, if it knows it.
func (o *UninstallOptions) disable(ctx context.Context) error {
	if _, err := os.Lstat(UnitFile); errors.Is(err, fs.ErrNotExist) || !o.booted() {
		return nil
	}
	if err := o.command(ctx, "systemctl", "disable", "--now", UnitName); err != nil {
		return err
	}
	say(o.Out, "ran", "systemctl disable --now "+UnitName, "")
	return nil
}

// removeFiles removes what Install wrote.
func (o *UninstallOptions) removeFiles(ctx context.Context) error {
	d := &disk{root: o.Root, out: o.Out, step: o.step}
	unlock, err := d.lock(o.Prefix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // never installed
	}
	if err != nil {
		return err
	}
	defer unlock()
	m, err := d.readManifest(o.Prefix)
	if err != nil {
		return err
	}
	keep := func(path string) bool { return o.KeepData && path == m.Config }
	if err := d.removeInstalled(o.Prefix, m, keep); err != nil {
		return err
	}
	if o.Root != "" || !o.booted() {
		return nil
	}
	o.reloadManagers(ctx)
	if err := o.command(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if _, err := os.Lstat(ShutdownUnitFile); err == nil {
		return nil // somebody changed it: it stays theirs
	}
	return o.forgetShutdown(ctx)
}
