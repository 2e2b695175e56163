// SPDX-License-Identifier: Apache-2.0

// Package datadir guards a data folder against programs that do not understand
// what is in it: etcd's data cannot be read by an older Kubernetes, and an upgrade
// that skips a minor version skips a migration.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Programs are the versions of those that work on a folder.
type Programs struct {
	Waggle     string `json:"waggle"`
	Kubernetes string `json:"kubernetes"` // v1.36.4
}

// content is what layout.VersionFile holds.
type content struct {
	Layout int `json:"layout"`
	Programs
}

// Claim checks that the programs may work on the data folder, and writes into it
// that they did. A folder that is missing or empty is theirs. The caller has the
// folder's lock, and has started nothing yet: once Claim has returned nil there is
// no way back to an older minor version of Kubernetes, but by a snapshot.
func Claim(l layout.Layout, now Programs) error {
	current, err := parseMinor(now.Kubernetes)
	if err != nil {
		return fmt.Errorf("this waggle-kube was built without its version: %w", err)
	}
	before, err := read(l.VersionFile())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(l.EtcdDir()); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data folder %s has a cluster's state, but no %s that says which version wrote it: restore the file, or restore a snapshot into an empty folder",
				l.Data, filepath.Base(l.VersionFile()))
		}
		return write(l.VersionFile(), content{layout.Version, now})
	}
	if err != nil {
		return err
	}
	if err := before.allows(current, now.Kubernetes, l.Data); err != nil {
		return err
	}
	if after := (content{layout.Version, now}); *before != after {
		return write(l.VersionFile(), after)
	}
	return nil
}

func read(path string) (*content, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read version of data folder: %w", err)
	}
	var c content
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read version of data folder: %s is damaged: %w: restore the file, or restore a snapshot into an empty folder", path, err)
	}
	return &c, nil
}

// allows says whether programs with a minor version of Kubernetes may go on with
// what is there.
func (c *content) allows(current minor, version, folder string) error {
	if c.Layout > layout.Version {
		return fmt.Errorf("data folder %s was written by waggle-kube %s, in layout %d, and this one knows layouts up to %d: install %s or newer, or restore a snapshot into an empty folder",
			folder, c.Waggle, c.Layout, layout.Version, c.Waggle)
	}
	if c.Layout < 1 {
		return fmt.Errorf("data folder %s has layout %d, which never was: restore a snapshot into an empty folder", folder, c.Layout)
	}
	before, err := parseMinor(c.Kubernetes)
	if err != nil {
		return fmt.Errorf("read version of data folder %s: %w", folder, err)
	}
	switch {
	case current.before(before):
		return fmt.Errorf("data folder %s was written by waggle-kube %s (Kubernetes %s), and this one has %s: install that version or newer, or restore a snapshot into an empty folder",
			folder, c.Waggle, c.Kubernetes, version)
	case before.next().before(current):
		return fmt.Errorf("data folder %s was written by waggle-kube %s (Kubernetes %s), and this one has %s: Kubernetes is upgraded one minor version at a time: start one with %s first",
			folder, c.Waggle, c.Kubernetes, version, before.next())
	}
	return nil
}

// write replaces the file as a whole, and returns when it would survive a power cut.
func write(path string, c content) (err error) {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write version of data folder: %w", err)
		}
	}()
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// minor is a version of Kubernetes without its patch.
type minor struct{ major, minor int }

func (m minor) String() string { return fmt.Sprintf("v%d.%d", m.major, m.minor) }

// next is the version that may follow. (There has been one major version so far.)
func (m minor) next() minor { return minor{m.major, m.minor + 1} }

func (m minor) before(other minor) bool {
	return m.major < other.major || m.major == other.major && m.minor < other.minor
}

var versionPattern = regexp.MustCompile(`^v(\d{1,4})\.(\d{1,4})\.\d+`)

func parseMinor(version string) (minor, error) {
	m := versionPattern.FindStringSubmatch(version)
	if m == nil {
		return minor{}, fmt.Errorf("%q is not a version of Kubernetes, such as v1.36.4", version)
	}
	a, errA := strconv.Atoi(m[1])
	b, errB := strconv.Atoi(m[2])
	return minor{a, b}, errors.Join(errA, errB)
}
