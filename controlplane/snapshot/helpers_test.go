// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/pki"
	"github.com/waggle-net/waggle/controlplane/supervise/datadir"
)

// ours are versions of programs, other than those of this build, for versions in
// errors to be told apart.
var ours = Programs{Kubernetes: "v1.36.4", Etcd: "3.6.99"}

// server is a data folder and the etcd that runs on it.
type server struct {
	layout.Layout
	etcd *embed.Etcd
	*clientv3.Client
	url string
}

// newLayout is a data folder as a first start leaves it, without etcd's.
func newLayout(t testing.TB) layout.Layout {
	t.Helper()
	dir := t.TempDir()
	l := layout.Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")}
	must(t, os.Mkdir(l.Data, 0o711))
	must(t, datadir.Claim(l, datadir.Programs{Waggle: "v0.5.0", Kubernetes: ours.Kubernetes}))
	ensurePKI(t, l)
	return l
}

// ensurePKI does what a server does before it starts anything.
func ensurePKI(t testing.TB, l layout.Layout) {
	t.Helper()
	_, err := pki.Ensure(pki.Spec{
		Layout: l, NodeName: "one",
		NodeIPs:    []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		ServiceIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:5::1")},
	}, time.Now())
	must(t, err)
	_, err = pki.EnsureEncryptionConfig(l, time.Now())
	must(t, err)
}

// start runs etcd on a data folder as a server does, but on ports of the kernel's
// choice.
func start(t testing.TB, l layout.Layout) *server {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = EtcdName, l.EtcdDir()
	local := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{local}, []url.URL{local}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	tls := func(file string) transport.TLSInfo {
		return transport.TLSInfo{CertFile: l.PKI(file), KeyFile: l.PKI(file), TrustedCAFile: l.PKI(pki.EtcdCACert), ClientCertAuth: true}
	}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = tls(pki.EtcdServer), tls(pki.EtcdPeer)
	cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync = 10, 100, true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	etcd, err := embed.StartEtcd(cfg)
	must(t, err)
	s := &server{Layout: l, etcd: etcd, url: "https://" + etcd.Clients[0].Addr().String()}
	t.Cleanup(s.stop)
	<-etcd.Server.ReadyNotify()
	info := tls(pki.APIServerEtcdClient)
	secure, err := info.ClientConfig()
	must(t, err)
	s.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.url}, TLS: secure, Logger: zap.NewNop()})
	must(t, err)
	return s
}

// stop ends etcd. It may be called again.
func (s *server) stop() {
	if s.Client != nil {
		s.Close()
		s.Client = nil
	}
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

func (s *server) saver() *Saver { return &Saver{Layout: s.Layout, Node: "one", URL: s.url} }

// put writes a key and returns its revision.
func (s *server) put(t testing.TB, key, value string) int64 {
	t.Helper()
	r, err := s.Put(t.Context(), key, value)
	must(t, err)
	return r.Header.Revision
}

// get is a key's value, or "" if there is none.
func (s *server) get(t testing.TB, key string) string {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	must(t, err)
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// saved is a snapshot of a cluster whose key "a" is "1", and the folder that it is
// of, with its etcd stopped.
func saved(t testing.TB) (string, layout.Layout) {
	t.Helper()
	s := start(t, newLayout(t))
	s.put(t, "a", "1")
	file := filepath.Join(t.TempDir(), "saved"+Suffix)
	_, err := s.saver().Save(t.Context(), file)
	must(t, err)
	s.stop()
	return file, s.Layout
}

func restore(t testing.TB, l layout.Layout, file string, force bool) (*Restored, error) {
	t.Helper()
	r := Restorer{Layout: l, Programs: ours, Force: force}
	return r.Restore(t.Context(), file)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names are those of a folder's files.
func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// contents are all files below a folder but the lock, by relative path, with their
// modes.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "lock" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		must(t, err)
		info, err := d.Info()
		must(t, err)
		text := info.Mode().String() + " "
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			must(t, err)
			sum := sha256.Sum256(b)
			text += hex.EncodeToString(sum[:])
		}
		files[rel] = text
		return nil
	}))
	return files
}

// fake is an archive without a cluster behind it. change may change what it holds
// before it is packed.
func fake(t testing.TB, change func(m *Manifest, content map[string][]byte)) []byte {
	t.Helper()
	m := &Manifest{
		Format: format, Time: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC), Node: "one",
		Waggle: "v0.5.0", Kubernetes: "v1.36.4", Layout: 1, Etcd: "3.6.8", Revision: 7, Keys: 3,
	}
	content := map[string][]byte{databaseName: []byte("database")}
	for _, name := range smallFiles() {
		content[name] = []byte("text of " + name)
	}
	for _, name := range append(smallFiles(), databaseName) {
		sum := sha256.Sum256(content[name])
		m.Members = append(m.Members, Member{name, int64(len(content[name])), hex.EncodeToString(sum[:])})
	}
	if change != nil {
		change(m, content)
	}
	var b bytes.Buffer
	must(t, writeArchive(&b, m, content, bytes.NewReader(content[databaseName])))
	return b.Bytes()
}

// fakeSave is a Saver.Save without a server. Each of its snapshots has the next
// revision.
func fakeSave(t testing.TB, revision *int64) func(context.Context, string) (*Manifest, error) {
	return func(_ context.Context, path string) (m *Manifest, err error) {
		*revision++
		text := fake(t, func(made *Manifest, _ map[string][]byte) {
			made.Time, made.Revision, m = time.Now().UTC(), *revision, made
		})
		return m, os.WriteFile(path, text, 0o600)
	}
}

// without is a copy of a data folder, but for etcd's, that lacks a file.
func without(t testing.TB, data, file string) layout.Layout {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(filepath.Join(dir, "pki"), os.DirFS(filepath.Join(data, "pki"))))
	for _, name := range []string{encryptionName, versionName} {
		b, err := os.ReadFile(filepath.Join(data, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	must(t, os.Remove(filepath.Join(dir, file)))
	return layout.Layout{Data: dir}
}
