// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcdsnapshot "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/waggle-net/waggle/controlplane/pki"
)

// answerTime is how long etcd may take to answer at all.
const answerTime = 10 * time.Second

// database is etcd's, as it was at one moment, in a file that has no name.
type database struct {
	*os.File
	size     int64
	sha256   string
	version  string // of the etcd that gave it
	revision int64
	keys     int
}

// fetch copies etcd's database into the folder, and checks what it got. The file is
// gone when it is closed, or the process ends in any way.
func (s *Saver) fetch(ctx context.Context, dir string) (_ *database, err error) {
	f, err := os.CreateTemp(dir, ".etcd-*")
	if err != nil {
		return nil, fmt.Errorf("save etcd's database: %w", err)
	}
	db := &database{File: f}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("save etcd's database: %w", err)
	}
	if db.version, err = s.stream(ctx, f); err != nil {
		return nil, err
	}
	if err := db.check(); err != nil {
		return nil, fmt.Errorf("check etcd's database: %w", err)
	}
	return db, nil
}

// stream copies the database from the running etcd, which appends its own checksum,
// and returns etcd's version.
func (s *Saver) stream(ctx context.Context, w io.Writer) (string, error) {
	files := transport.TLSInfo{
		CertFile: s.Layout.PKI(pki.APIServerEtcdClient), KeyFile: s.Layout.PKI(pki.APIServerEtcdClient),
		TrustedCAFile: s.Layout.PKI(pki.EtcdCACert),
	}
	secure, err := files.ClientConfig()
	if err != nil {
		return "", fmt.Errorf("read etcd's client certificate: %w (was the server ever started on %s?)", err, s.Layout.Data)
	}
	if err := probe(ctx, s.url(), secure); err != nil {
		return "", err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url()}, TLS: secure, Context: ctx, Logger: zap.NewNop()})
	if err != nil {
		return "", fmt.Errorf("connect to etcd: %w", err)
	}
	defer client.Close()
	// The stream tells the version of the database's format alone.
	status, err := client.Status(ctx, s.url())
	if err != nil {
		return "", fmt.Errorf("ask etcd for its version: %w", err)
	}
	response, err := client.SnapshotWithVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("save etcd's database: %w", err)
	}
	defer response.Snapshot.Close()
	if _, err := io.Copy(w, response.Snapshot); err != nil {
		return "", fmt.Errorf("save etcd's database: %w", err)
	}
	return status.Version, nil
}

// probe connects once: etcd's client would try again and again, and not say why.
func probe(ctx context.Context, etcd string, secure *tls.Config) error {
	u, err := url.Parse(etcd)
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", u.Host)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("etcd does not answer on %s: start the server (`waggle-kube server`), for a snapshot is taken from the running one", etcd)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("etcd on %s has not answered within %s: see `waggle-kube status`", etcd, answerTime)
	case err != nil:
		return fmt.Errorf("connect to etcd on %s: %w (is it the server of this data folder that runs?)", etcd, err)
	}
	return conn.Close()
}

// check compares the checksum that etcd appended, looks through the database, and
// counts what is in it.
func (db *database) check() error {
	info, err := db.Stat()
	if err != nil {
		return err
	}
	db.size = info.Size()
	if db.size <= sha256.Size {
		return fmt.Errorf("etcd sent %d bytes only", db.size)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(db, 0, db.size-sha256.Size)); err != nil {
		return err
	}
	tail := make([]byte, sha256.Size)
	if _, err := db.ReadAt(tail, db.size-sha256.Size); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), tail) {
		return errors.New("its checksum is wrong: save it again")
	}
	sum.Write(tail)
	db.sha256 = hex.EncodeToString(sum.Sum(nil))
	status, err := etcdsnapshot.NewV3(zap.NewNop()).Status(fmt.Sprintf("/proc/self/fd/%d", db.Fd()))
	if err != nil {
		return err
	}
	db.revision, db.keys = status.Revision, status.TotalKey
	return nil
}
