// SPDX-License-Identifier: Apache-2.0

// Package snapshot saves the state of a cluster into a file, and makes a data folder
// of it again, on an empty machine, too.
//
// A snapshot is a tar archive, compressed with gzip: a manifest, etcd's database,
// and what cannot be made anew: the CAs, the service account key, the keys of
// encryption at rest, and the data folder's version. Who has it has the cluster.
//
//	save:    etcd ──stream──> unnamed file ──checked──> archive.part ──rename──> archive
//	restore: archive ──checked──> restore.new ──rename──> restore.ready ──> data folder
//	                                        data folder's own ──> before-restore-<time>
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/pki"
)

// The one member of a cluster, as etcd knows it: it must be the same when a snapshot
// is restored as when the restored state is started.
const (
	EtcdName    = "waggle-kube"
	EtcdURL     = "https://127.0.0.1:2379"
	EtcdPeerURL = "https://127.0.0.1:2380"
)

// format of an archive. A program refuses a higher one.
const format = 1

// Members of an archive, beside files of the PKI.
const (
	manifestName   = "manifest.json"
	databaseName   = "etcd.db"
	encryptionName = "encryption.yaml"
	versionName    = "version.json"
)

// The largest members that are read. etcd's database has at most 8 GiB.
const (
	maxManifest = 1 << 20
	maxSmall    = 1 << 20
	maxDatabase = 9 << 30
)

// smallFiles are the members other than manifest and database, under the names that
// they have below the data folder.
func smallFiles() []string {
	names := []string{versionName, encryptionName}
	for _, file := range []string{
		pki.ClusterCACert, pki.ClusterCAKey, pki.FrontProxyCACert, pki.FrontProxyCAKey,
		pki.EtcdCACert, pki.EtcdCAKey, pki.ServiceAccountKey,
	} {
		names = append(names, "pki/"+file)
	}
	return names
}

// mode of a member on the disk.
func mode(name string) fs.FileMode {
	if filepath.Ext(name) == ".crt" || name == versionName {
		return 0o644
	}
	return 0o600
}

// Manifest says what an archive holds. It is its first member.
type Manifest struct {
	Format int       `json:"format"`
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`
	// Waggle and Kubernetes are the versions of the server that ran, Layout is
	// that of its data folder.
	Waggle     string `json:"waggle"`
	Kubernetes string `json:"kubernetes"`
	Layout     int    `json:"layout"`
	// Etcd is the version of etcd that gave the database.
	Etcd string `json:"etcd"`
	// Revision is etcd's latest, Keys the number of keys at it.
	Revision int64 `json:"revision"`
	Keys     int   `json:"keys"`
	// Members are all others, in the order of the archive.
	Members []Member `json:"members"`
}

// Member is a file in an archive.
type Member struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// database is the member that holds etcd's database.
func (m *Manifest) database() Member {
	i := slices.IndexFunc(m.Members, func(f Member) bool { return f.Name == databaseName })
	return m.Members[i]
}

// newerError says that an archive is of a newer program.
type newerError struct{ m *Manifest }

func (e *newerError) Error() string {
	return fmt.Sprintf("its format is %d, this waggle-kube knows formats up to %d: use waggle-kube %s or newer", e.m.Format, format, e.m.Waggle)
}

func parseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("read %s: %w", manifestName, err)
	}
	if m.Format > format {
		return nil, &newerError{m}
	}
	if m.Format < 1 {
		return nil, errors.New("its manifest has no format")
	}
	want := append(smallFiles(), databaseName)
	for _, f := range m.Members {
		i := slices.Index(want, f.Name)
		if i < 0 {
			return nil, fmt.Errorf("its manifest names %q, which is no part of a snapshot, or names it twice", f.Name)
		}
		want = slices.Delete(want, i, i+1)
		limit := int64(maxSmall)
		if f.Name == databaseName {
			limit = maxDatabase
		}
		if f.Size < 0 || f.Size > limit {
			return nil, fmt.Errorf("%s has %d bytes, at most %d are read", f.Name, f.Size, limit)
		}
	}
	if len(want) > 0 {
		return nil, fmt.Errorf("its manifest lacks %q", want)
	}
	return m, nil
}

// written is what the data folder's version file says about who works on it.
type written struct {
	Layout     int    `json:"layout"`
	Waggle     string `json:"waggle"`
	Kubernetes string `json:"kubernetes"`
}

func parseWritten(text []byte) (w written, err error) {
	if err := json.Unmarshal(text, &w); err != nil {
		return written{}, fmt.Errorf("read %s: %w", versionName, err)
	}
	return w, nil
}

// Programs are the versions of those that restore a snapshot.
type Programs struct {
	Kubernetes string // v1.36.4
	Etcd       string // 3.6.8
}

// allows says whether the programs can go on with a snapshot.
func (p Programs) allows(m *Manifest) error {
	if m.Layout < 1 || m.Layout > layout.Version {
		return fmt.Errorf("it is of a data folder in layout %d, this waggle-kube knows layouts up to %d: restore it with waggle-kube %s or newer", m.Layout, layout.Version, m.Waggle)
	}
	for _, c := range []struct {
		name, theirs, ours string
		skip               bool // may an upgrade leave out minor versions?
	}{{"Kubernetes", m.Kubernetes, p.Kubernetes, false}, {"etcd", m.Etcd, p.Etcd, true}} {
		theirs, err := version.ParseGeneric(c.theirs)
		if err != nil {
			return fmt.Errorf("its version of %s is no version: %w", c.name, err)
		}
		ours, err := version.ParseGeneric(c.ours)
		if err != nil {
			return fmt.Errorf("this waggle-kube was built without the version of %s: %w", c.name, err)
		}
		switch {
		case theirs.Major() > ours.Major() || theirs.Major() == ours.Major() && theirs.Minor() > ours.Minor():
			return fmt.Errorf("it was saved by waggle-kube %s with %s %s, and this one has %s: restore it with that version or a newer one", m.Waggle, c.name, c.theirs, c.ours)
		case !c.skip && theirs.Major() == ours.Major() && ours.Minor() > theirs.Minor()+1:
			return fmt.Errorf("it was saved by waggle-kube %s with %s %s, and this one has %s: %s is upgraded one minor version at a time: restore it with that version, and upgrade from there",
				m.Waggle, c.name, c.theirs, c.ours, c.name)
		}
	}
	return nil
}
