// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// start is when the cluster of a test is made.
var start = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func ips(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func testSpec(t testing.TB) Spec {
	t.Helper()
	dir := t.TempDir()
	return Spec{
		Layout:     layout.Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")},
		NodeName:   "one",
		NodeIPs:    ips("192.0.2.1", "2001:db8::1"),
		ServiceIPs: ips("198.51.100.1", "2001:db8:5::1"),
		TLSSANs:    []string{"api.example.com", "203.0.113.9"},
	}
}

func mustEnsure(t testing.TB, spec Spec, now time.Time) []Change {
	t.Helper()
	changes, err := Ensure(spec, now)
	if err != nil {
		t.Fatalf("Ensure() at %s: %v", now, err)
	}
	return changes
}

// changed are the names of files that changed, sorted.
func changed(changes []Change) []string {
	var names []string
	for _, c := range changes {
		names = append(names, filepath.Base(c.File))
	}
	slices.Sort(names)
	return names
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func mustWrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustRemove(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// contents are all files below a folder, by relative path.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[rel] = mustRead(t, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func mustPair(t testing.TB, path string) *pair {
	t.Helper()
	text := []byte(mustRead(t, path))
	p, err := parsePair(text, text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p
}

func mustCA(t testing.TB, spec Spec, crt string) *x509.Certificate {
	t.Helper()
	c, err := parseCert([]byte(mustRead(t, spec.Layout.PKI(crt))))
	if err != nil {
		t.Fatalf("%s: %v", crt, err)
	}
	return c
}

// wanted is what a certificate of testSpec says. It is written out, apart from
// the program's own list.
type wanted struct {
	ca, subject string
	sans        []string
	usage       []x509.ExtKeyUsage
}

var (
	wantClient = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	wantServer = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	wantBoth   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

	wantLocal = []string{"localhost", "127.0.0.1", "::1"}
	wantEtcd  = []string{"localhost", "one", "127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"}
)

var wantedLeaves = map[string]wanted{
	"apiserver.pem": {"cluster-ca.crt", "CN=kube-apiserver", []string{
		"api.example.com", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"localhost", "one", "127.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.9", "::1", "2001:db8::1", "2001:db8:5::1"}, wantServer},
	"apiserver-kubelet-client.pem":   {"cluster-ca.crt", "CN=kube-apiserver-kubelet-client", nil, wantClient},
	"apiserver-etcd-client.pem":      {"etcd-ca.crt", "CN=kube-apiserver-etcd-client", nil, wantClient},
	"front-proxy-client.pem":         {"front-proxy-ca.crt", "CN=front-proxy-client", nil, wantClient},
	"controller-manager.pem":         {"cluster-ca.crt", "CN=system:kube-controller-manager", nil, wantClient},
	"controller-manager-serving.pem": {"cluster-ca.crt", "CN=kube-controller-manager", wantLocal, wantServer},
	"scheduler.pem":                  {"cluster-ca.crt", "CN=system:kube-scheduler", nil, wantClient},
	"scheduler-serving.pem":          {"cluster-ca.crt", "CN=kube-scheduler", wantLocal, wantServer},
	"admin.pem":                      {"cluster-ca.crt", "CN=kubernetes-admin,O=waggle:cluster-admins", nil, wantClient},
	"kubelet-client.pem":             {"cluster-ca.crt", "CN=system:node:one,O=system:nodes", nil, wantClient},
	"kubelet-serving.pem":            {"cluster-ca.crt", "CN=system:node:one,O=system:nodes", []string{"one", "192.0.2.1", "2001:db8::1"}, wantServer},
	"waggled.pem":                    {"cluster-ca.crt", "CN=system:node:one,O=system:nodes+O=waggle:dataplane", nil, wantClient},
	"etcd-server.pem":                {"etcd-ca.crt", "CN=one", wantEtcd, wantBoth},
	"etcd-peer.pem":                  {"etcd-ca.crt", "CN=one", wantEtcd, wantBoth},
}

var caFiles = []string{"cluster-ca.crt", "front-proxy-ca.crt", "etcd-ca.crt"}

// verifyAll checks each certificate as those who meet it do.
func verifyAll(t testing.TB, spec Spec, now time.Time) {
	t.Helper()
	for file, want := range wantedLeaves {
		c := mustPair(t, spec.Layout.PKI(file)).cert()
		for _, ca := range caFiles {
			roots := x509.NewCertPool()
			roots.AddCert(mustCA(t, spec, ca))
			for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
				_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
				good := ca == want.ca && slices.Contains(want.usage, usage)
				if (err == nil) != good {
					t.Errorf("%s at %s by %s for usage %d: error %v, want good: %t", file, now, ca, usage, err, good)
				}
			}
		}
	}
}
