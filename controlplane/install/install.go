// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// ErrNoSystemd says that the machine was not booted with systemd.
var ErrNoSystemd = errors.New("systemd does not run this machine")

// Options say what to install, and where.
type Options struct {
	// Root is put before every path, to build an image of a system that does not
	// run: nothing is reloaded or started. Default: the machine's own root folder.
	Root string
	// Source is the folder of the programs. Required.
	Source string
	// Programs are names of files in Source. The first one is the service.
	// Required.
	Programs []string
	// Version names the folder of these programs below Prefix. Required.
	Version string
	// Prefix and BinDir are where programs, and a link to the first of them, go.
	// Default: DefaultPrefix and DefaultBinDir.
	Prefix, BinDir string
	// ConfigFile is the server's. Default: layout.DefaultConfig.
	ConfigFile string
	// Config is written there if nothing is. Required.
	Config []byte
	// Start starts the service, and restarts one whose files changed.
	Start bool
	// Out is told each step when it is done. Required.
	Out io.Writer

	system // for tests
}

// Install writes everything, enables the service, and leaves what somebody else
// wrote or changed. Installing again changes nothing; installing another version
// is the upgrade to it. Versions that were installed before stay, as pods were
// started with programs of theirs and need these to end.
func Install(ctx context.Context, o Options) error {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return fmt.Errorf("install waggle-kube: %w", err)
	}
	if o.Root == "" && !o.booted() {
		return fmt.Errorf("install waggle-kube: %w, nothing was installed: have your service manager run %q as root, or give --root to prepare a system that is not running",
			ErrNoSystemd, filepath.Join(o.Source, o.Programs[0])+" server --config "+o.ConfigFile)
	}
	if err := o.install(ctx); err != nil {
		return fmt.Errorf("install waggle-kube: %w: install again to finish, or uninstall", err)
	}
	return nil
}

func (o *Options) install(ctx context.Context) error {
	d := &disk{root: o.Root, out: o.Out, step: o.step}
	m := &manifest{}
	d.recordDirs(m, filepath.Join(o.Prefix, manifestName))
	if err := errors.Join(o.step("mkdir", o.Prefix), os.MkdirAll(d.path(o.Prefix), 0o755)); err != nil {
		return err
	}
	unlock, err := d.lock(o.Prefix)
	if err != nil {
		return err
	}
	defer unlock()
	made := m.Dirs
	if m, err = d.readManifest(o.Prefix); err != nil {
		return err
	}
	m.Dirs = append(made, m.Dirs...)
	if err := o.writeAll(d, m); err != nil || o.Root != "" {
		return err
	}
	return o.enable(ctx, d, m)
}

func (o *Options) setDefaults() {
	setDefault(&o.Prefix, DefaultPrefix)
	setDefault(&o.BinDir, DefaultBinDir)
	setDefault(&o.ConfigFile, layout.DefaultConfig)
	o.system.setDefaults()
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

var (
	// A unit file and a shell take these as they are.
	plainPath    = regexp.MustCompile(`^/[A-Za-z0-9_./+-]*$`)
	plainVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
)

func (o *Options) validate() error {
	for _, path := range []string{o.Prefix, o.BinDir, o.ConfigFile} {
		if !plainPath.MatchString(path) || path != filepath.Clean(path) || path == "/" {
			return fmt.Errorf("path %q: use an absolute one of letters, digits and /_.+-", path)
		}
	}
	if !plainVersion.MatchString(o.Version) || slices.Contains([]string{currentName, manifestName}, o.Version) {
		return fmt.Errorf("version %q cannot be the name of a folder: build with a version", o.Version)
	}
	if len(o.Programs) == 0 {
		return errors.New("no programs to install")
	}
	for _, name := range o.Programs {
		fi, err := os.Stat(filepath.Join(o.Source, name))
		if err != nil {
			return fmt.Errorf("%w: unpack the whole release into one folder", err)
		}
		if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s is not a program", filepath.Join(o.Source, name))
		}
	}
	if o.Root != "" {
		if fi, err := os.Stat(o.Root); err != nil || !fi.IsDir() {
			return fmt.Errorf("--root %s is not a folder", o.Root)
		}
	}
	return nil
}

// writeAll writes files and links: first the record, then the deed.
func (o *Options) writeAll(d *disk, m *manifest) error {
	stale, err := d.plan(m, o.files())
	if err != nil {
		return err
	}
	links := slices.DeleteFunc(o.links(), func(l link) bool { return !d.needed(m, l) })
	for _, f := range stale {
		d.recordFile(m, f)
	}
	for _, l := range links {
		d.recordLink(m, l)
	}
	m.Config = o.ConfigFile
	m.Restart = m.Restart || len(stale)+len(links) > 0
	if err := d.writeManifest(o.Prefix, m); err != nil {
		return err
	}
	for _, f := range stale {
		if err := d.put(f); err != nil {
			return err
		}
		m.Files[f.path] = []string{f.hash}
	}
	for _, l := range links {
		if err := d.link(l); err != nil {
			return err
		}
		m.Links[l.path] = []string{l.target}
	}
	return d.writeManifest(o.Prefix, m)
}

// links in their order: programs are there when current begins to name them.
func (o *Options) links() []link {
	current := filepath.Join(o.Prefix, currentName)
	links := []link{
		{current, o.Version},
		{filepath.Join(o.BinDir, o.Programs[0]), filepath.Join(current, o.Programs[0])},
	}
	if o.Root != "" { // where nobody can be asked to
		links = append(links, link{wantsFile, "../" + UnitName})
	}
	return links
}

// enable makes the service start with the machine, and now if that is wanted.
func (o *Options) enable(ctx context.Context, d *disk, m *manifest) error {
	o.reloadManagers(ctx)
	do := [][]string{{"daemon-reload"}, {"enable", UnitName}}
	switch {
	case o.Start && m.Restart:
		do = append(do, []string{"restart", UnitName})
	case o.Start:
		do = append(do, []string{"start", UnitName})
	}
	for _, args := range do {
		if err := o.command(ctx, "systemctl", args...); err != nil {
			return fmt.Errorf("%w: journalctl -u %s says more", err, UnitName)
		}
		say(o.Out, "ran", "systemctl "+strings.Join(args, " "), "")
	}
	if !o.Start {
		fmt.Fprintf(o.Out, "to start it: systemctl restart %s\n", UnitName)
		return nil
	}
	m.Restart = false
	return d.writeManifest(o.Prefix, m)
}
