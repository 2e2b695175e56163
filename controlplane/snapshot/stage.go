// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	etcdsnapshot "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

const (
	// revisionBump is added to etcd's revision. Clients have seen what was written
	// after the snapshot, and would take anything new under those revisions for
	// what they know. No cluster writes that much in between.
	revisionBump = 1_000_000_000

	// room is what restoring needs beside two copies of the database: etcd's log
	// is 64 MiB from the start.
	room = 128 << 20

	// planName is a file beside the staged state.
	planName = "plan.json"
)

// plan is what finishing an interrupted restore needs to know.
type plan struct {
	Aside    string    `json:"aside"` // a name in the data folder, of no file yet
	Manifest *Manifest `json:"manifest"`
}

// staging is where the new state is made. It is laid out as the data folder is, in
// whose file system it must be.
func (r *Restorer) staging() layout.Layout {
	return layout.Layout{Data: filepath.Join(r.Layout.Data, "restore.new")}
}

// stage makes the new state, from the beginning.
func (r *Restorer) stage(ctx context.Context, file string) error {
	to := r.staging()
	if err := r.remove(to.Data); err != nil {
		return err
	}
	for _, dir := range []string{to.Data, to.PKIDir()} {
		if err := r.mkdir(dir); err != nil {
			return err
		}
	}
	m, err := readFile(file, sink{start: r.allows, member: func(f Member, content io.Reader) error {
		return r.unpack(f, &interruptible{ctx, content})
	}})
	if err != nil {
		return err
	}
	if err := compareVersions(to.VersionFile(), m); err != nil {
		return fmt.Errorf("read snapshot %s: %w", file, &damagedError{err})
	}
	database := filepath.Join(to.Data, databaseName)
	if err := r.may("restore", to.EtcdDir()); err != nil {
		return err
	}
	if err := restoreEtcd(database, to.EtcdDir()); err != nil {
		return fmt.Errorf("make etcd's folder: %w", err)
	}
	if err := r.remove(database); err != nil {
		return err
	}
	if err := r.writePlan(m); err != nil {
		return err
	}
	return errors.Join(r.syncTree(to.Data), ctx.Err())
}

// allows checks what can be said before anything is written.
func (r *Restorer) allows(m *Manifest) error {
	if err := r.Programs.allows(m); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.Layout.Data, &fs); err != nil {
		return fmt.Errorf("look for free space: statfs %s: %w", r.Layout.Data, err)
	}
	free, need := int64(fs.Bavail)*fs.Frsize, 2*m.database().Size+room
	if free < need {
		return fmt.Errorf("restoring it needs %s, the file system of %s has %s: free space there", size(need), r.Layout.Data, size(free))
	}
	return nil
}

// unpack writes a member of an archive. Its name is one of those that we know.
func (r *Restorer) unpack(m Member, content io.Reader) error {
	path := filepath.Join(r.staging().Data, m.Name)
	return r.write(path, mode(m.Name), func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	})
}

func compareVersions(path string, m *Manifest) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	w, err := parseWritten(text)
	if err != nil {
		return err
	}
	if want := (written{m.Layout, m.Waggle, m.Kubernetes}); w != want {
		return fmt.Errorf("%s says %v, its manifest %v", versionName, w, want)
	}
	return nil
}

// restoreEtcd makes etcd's folder of its database.
func restoreEtcd(database, dir string) error {
	// Some of etcd's errors end the process: they must be told before.
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), zapcore.ErrorLevel)
	return etcdsnapshot.NewV3(zap.New(core).Named("etcd")).Restore(etcdsnapshot.RestoreConfig{
		SnapshotPath:   database,
		Name:           EtcdName,
		OutputDataDir:  dir,
		PeerURLs:       []string{EtcdPeerURL},
		InitialCluster: EtcdName + "=" + EtcdPeerURL,
		// A member of the cluster as it was before does not take it for its own.
		InitialClusterToken: "restored-" + time.Now().UTC().Format(time.RFC3339Nano),
		RevisionBump:        revisionBump,
		MarkCompacted:       true,
	})
}

func (r *Restorer) writePlan(m *Manifest) error {
	aside := "before-restore-" + time.Now().UTC().Format("20060102T150405Z")
	for name, n := aside, 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(r.Layout.Data, name)); errors.Is(err, fs.ErrNotExist) {
			aside = name
			break
		} else if err != nil {
			return err
		}
		name = fmt.Sprintf("%s-%d", aside, n)
	}
	return r.write(filepath.Join(r.staging().Data, planName), 0o600, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(plan{Aside: aside, Manifest: m})
	})
}
