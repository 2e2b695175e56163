// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Suffix of an archive's name.
const Suffix = ".tar.gz"

// FileName is what a snapshot is called unless it is given a name.
func FileName(node string, now time.Time) string {
	return "waggle-kube-" + node + "-" + now.UTC().Format("20060102T150405Z") + Suffix
}

// Saver saves the state of a running server.
type Saver struct {
	// Layout is where the server keeps its files. Required.
	Layout layout.Layout
	// Node is the server's name, for the manifest. Required.
	Node string
	// URL is where etcd answers. Optional: EtcdURL.
	URL string
}

func (s *Saver) url() string {
	if s.URL == "" {
		return EtcdURL
	}
	return s.URL
}

// Save writes a snapshot to a file that does not exist yet. Whatever happens, there
// is a whole snapshot under that name or none.
func (s *Saver) Save(ctx context.Context, path string) (*Manifest, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("save snapshot: %s exists: give another name, or remove it", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("save snapshot: %w", err)
	}
	m, err := s.save(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("save snapshot: %w%s", err, roomRemedy(err, filepath.Dir(path)))
	}
	return m, nil
}

func (s *Saver) save(ctx context.Context, path string) (*Manifest, error) {
	dir := filepath.Dir(path)
	if err := removeParts(dir); err != nil {
		return nil, err
	}
	small, err := s.readSmall()
	if err != nil {
		return nil, err
	}
	db, err := s.fetch(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	m, err := s.manifest(db, small)
	if err != nil {
		return nil, err
	}
	// The database may hold what was encrypted with a key that came or went since.
	again, err := s.readSmall()
	if err != nil {
		return nil, err
	}
	if err := unchanged(s.Layout.Data, small, again); err != nil {
		return nil, err
	}
	err = writePart(path, func(w io.Writer) error {
		return writeArchive(w, m, small, &interruptible{ctx, io.NewSectionReader(db, 0, db.size)})
	})
	return m, err
}

func unchanged(data string, before, after map[string][]byte) error {
	for name, content := range before {
		if !bytes.Equal(content, after[name]) {
			return fmt.Errorf("%s has changed meanwhile: save it again", filepath.Join(data, name))
		}
	}
	return nil
}

func (s *Saver) readSmall() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, name := range smallFiles() {
		content, err := os.ReadFile(filepath.Join(s.Layout.Data, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: the data folder is incomplete, or no server was started on it yet", err)
		}
		if err != nil {
			return nil, err
		}
		if len(content) > maxSmall {
			return nil, fmt.Errorf("%s has more than %d bytes", filepath.Join(s.Layout.Data, name), maxSmall)
		}
		files[name] = content
	}
	return files, nil
}

// manifest describes what was gathered. Versions are those of the server that runs,
// which may be another than this program after an upgrade.
func (s *Saver) manifest(db *database, small map[string][]byte) (*Manifest, error) {
	server, err := parseWritten(small[versionName])
	if err != nil {
		return nil, err
	}
	if db.size > maxDatabase {
		return nil, fmt.Errorf("etcd's database has %d bytes, at most %d can be saved", db.size, int64(maxDatabase))
	}
	m := &Manifest{
		Format: format, Time: time.Now().UTC().Truncate(time.Second), Node: s.Node,
		Waggle: server.Waggle, Kubernetes: server.Kubernetes, Layout: server.Layout,
		Etcd: db.version, Revision: db.revision, Keys: db.keys,
	}
	for _, name := range smallFiles() {
		sum := sha256.Sum256(small[name])
		m.Members = append(m.Members, Member{name, int64(len(small[name])), hex.EncodeToString(sum[:])})
	}
	m.Members = append(m.Members, Member{databaseName, db.size, db.sha256})
	return m, nil
}
