// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var allKubeconfigs = []string{"admin.yaml", "controller-manager.yaml", "kubelet.yaml", "scheduler.yaml", "waggled.yaml"}

func TestEnsureMakesEverything(t *testing.T) {
	spec := testSpec(t)
	got := changed(mustEnsure(t, spec, start))
	want := slices.Sorted(slices.Values(slices.Concat(caFiles, []string{"service-account.key"}, allKubeconfigs, slices.Collect(maps.Keys(wantedLeaves)))))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	verifyAll(t, spec, start)
	for file, want := range wantedLeaves {
		c := mustPair(t, spec.Layout.PKI(file)).cert()
		if c.Subject.String() != want.subject {
			t.Errorf("%s: subject %s, want %s", file, c.Subject, want.subject)
		}
		if diff := cmp.Diff(want.sans, sansOf(c).strings()); diff != "" {
			t.Errorf("%s: SANs (-want +got):\n%s", file, diff)
		}
		for _, san := range want.sans {
			if err := c.VerifyHostname(san); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		if !c.NotBefore.Equal(start.Add(-time.Hour)) || !c.NotAfter.Equal(start.Add(365*day)) || c.IsCA {
			t.Errorf("%s: valid %s to %s, CA %t", file, c.NotBefore, c.NotAfter, c.IsCA)
		}
	}
	for _, file := range caFiles {
		c := mustCA(t, spec, file)
		if !c.IsCA || !c.NotBefore.Equal(start.Add(-time.Hour)) || !c.NotAfter.Equal(start.Add(3650*day)) {
			t.Errorf("%s: valid %s to %s, CA %t", file, c.NotBefore, c.NotAfter, c.IsCA)
		}
	}
	if changes := mustEnsure(t, spec, start.Add(time.Hour)); len(changes) > 0 {
		t.Errorf("second time: %+v, want no change", changes)
	}
}

func TestFilesAreForTheirOwner(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	err := filepath.WalkDir(spec.Layout.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == spec.Layout.Data {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else if filepath.Ext(path) == ".crt" {
			want = 0o644
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: permissions %#o, want %#o", path, got, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPermissionsAreRepaired(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	l := spec.Layout
	tooOpen := map[string]fs.FileMode{
		l.PKIDir(): 0o755, l.PKI(ClusterCAKey): 0o640, l.PKI(ServiceAccountKey): 0o644, l.PKI(Admin): 0o604,
		l.PKI(EtcdCACert): 0o666, l.Kubeconfig("admin"): 0o644,
	}
	for path, mode := range tooOpen {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	// What is stricter than needed is somebody's wish.
	if err := os.Chmod(l.PKI(EtcdServer), 0o400); err != nil {
		t.Fatal(err)
	}
	before := contents(t, l.Data)
	changes := mustEnsure(t, spec, start)
	want := []string{"admin.pem", "admin.yaml", "cluster-ca.key", "etcd-ca.crt", "pki", "service-account.key"}
	if diff := cmp.Diff(want, changed(changes)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for _, c := range changes {
		if !strings.Contains(c.Reason, "too open") {
			t.Errorf("%s: reason %q", c.File, c.Reason)
		}
	}
	for path := range tooOpen {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o022 != 0 || filepath.Ext(path) != ".crt" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is still %s", path, info.Mode())
		}
	}
	if diff := cmp.Diff(before, contents(t, l.Data)); diff != "" {
		t.Errorf("contents (-before +after):\n%s", diff)
	}
}

// Which files follow which part of the spec.
func TestSpecChanges(t *testing.T) {
	nodeLeaves := []string{"apiserver.pem", "etcd-peer.pem", "etcd-server.pem", "kubelet-serving.pem"}
	tests := map[string]struct {
		change func(*Spec)
		want   []string
		reason string // of the first
	}{
		"node address": {func(s *Spec) { s.NodeIPs = ips("192.0.2.2", "2001:db8::1") },
			append([]string{"admin.yaml"}, nodeLeaves...), "had another server or CA"},
		"further node address": {func(s *Spec) { s.NodeIPs = ips("192.0.2.1", "2001:db8::1", "192.0.2.2") },
			nodeLeaves, "was not good for 192.0.2.2"},
		"lost node address": {func(s *Spec) { s.NodeIPs = ips("192.0.2.1") },
			nodeLeaves, "was good for what is not the component's any more: 2001:db8::1"},
		"order of node addresses": {func(s *Spec) { slices.Reverse(s.NodeIPs) },
			[]string{"admin.yaml"}, "had another server or CA"},
		"mapped node address": {func(s *Spec) { s.NodeIPs[0] = ips("::ffff:192.0.2.1")[0] }, nil, ""},
		"only IPv6": {func(s *Spec) { s.NodeIPs = ips("2001:db8::1") },
			append([]string{"admin.yaml", "apiserver.pem", "controller-manager.yaml"}, "etcd-peer.pem", "etcd-server.pem", "kubelet-serving.pem", "kubelet.yaml", "scheduler.yaml", "waggled.yaml"),
			"had another server or CA"},
		"node name": {func(s *Spec) { s.NodeName = "two" },
			[]string{"apiserver.pem", "etcd-peer.pem", "etcd-server.pem", "kubelet-client.pem", "kubelet-serving.pem", "waggled.pem"}, "was not good for two"},
		"service address": {func(s *Spec) { s.ServiceIPs = s.ServiceIPs[:1] }, []string{"apiserver.pem"}, "was good for"},
		"cluster domain":  {func(s *Spec) { s.ClusterDomain = "example.org" }, []string{"apiserver.pem"}, "was not good for kubernetes.default.svc.example.org"},
		"further SAN":     {func(s *Spec) { s.TLSSANs = append(s.TLSSANs, "*.Example.com") }, []string{"apiserver.pem"}, "was not good for *.example.com"},
		"SAN as it is":    {func(s *Spec) { s.TLSSANs = []string{"203.0.113.9", "localhost", "API.example.com", "::1"} }, nil, ""},
		"port":            {func(s *Spec) { s.Port = 7443 }, allKubeconfigs, "had another server or CA"},
		"longer lifetime": {func(s *Spec) { s.Lifetime = 1000 * day }, nil, ""},
		"nothing":         {func(*Spec) {}, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			mustEnsure(t, spec, start)
			before := contents(t, spec.Layout.Data)
			test.change(&spec)
			changes := mustEnsure(t, spec, start.Add(time.Hour))
			if diff := cmp.Diff(test.want, changed(changes)); diff != "" {
				t.Fatalf("changes (-want +got):\n%s", diff)
			}
			for _, c := range changes {
				if filepath.Base(c.File) == test.want[0] && !strings.HasPrefix(c.Reason, test.reason) {
					t.Errorf("%s: reason %q, want %q", c.File, c.Reason, test.reason)
				}
			}
			var differ []string
			for path, text := range contents(t, spec.Layout.Data) {
				if before[path] != text {
					differ = append(differ, filepath.Base(path))
				}
			}
			slices.Sort(differ)
			if diff := cmp.Diff(test.want, differ); diff != "" {
				t.Errorf("files that differ (-want +got):\n%s", diff)
			}
			if again := mustEnsure(t, spec, start.Add(time.Hour)); len(again) > 0 {
				t.Errorf("again: %+v, want no change", again)
			}
			verifyAll(t, spec, start.Add(time.Hour))
		})
	}
}

// A leaf is replaced when it is not what it should be, and nothing else is.
func TestLeavesAreReplaced(t *testing.T) {
	tests := map[string]struct {
		spoil  func(t *testing.T, spec Spec, path string)
		reason string
	}{
		"missing": {func(t *testing.T, _ Spec, path string) { mustRemove(t, path) }, "did not exist"},
		"empty":   {func(t *testing.T, _ Spec, path string) { mustWrite(t, path, "") }, "was damaged"},
		"cut in two": {func(t *testing.T, _ Spec, path string) {
			text := mustRead(t, path)
			mustWrite(t, path, text[:len(text)-60])
		}, "was damaged"},
		"without key": {func(t *testing.T, _ Spec, path string) {
			cert, _, _ := strings.Cut(mustRead(t, path), "-----BEGIN EC")
			mustWrite(t, path, cert)
		}, "was damaged"},
		"another's key": {func(t *testing.T, spec Spec, path string) {
			cert, _, _ := strings.Cut(mustRead(t, path), "-----BEGIN EC")
			mustWrite(t, path, cert+mustRead(t, spec.Layout.PKI(EtcdCAKey)))
		}, "was damaged"},
		"another CA": {func(t *testing.T, spec Spec, path string) {
			other := testSpec(t)
			mustEnsure(t, other, start)
			mustWrite(t, path, mustRead(t, other.Layout.PKI(SchedulerServing)))
		}, "was not signed by the CA in cluster-ca.crt"},
		"another subject": {func(t *testing.T, spec Spec, path string) {
			mustWrite(t, path, mustRead(t, spec.Layout.PKI(ControllerManagerServing)))
		}, "subject was CN=kube-controller-manager, is to be CN=kube-scheduler"},
		"another usage": {func(t *testing.T, spec Spec, path string) {
			mustWrite(t, path, reissue(t, spec, func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }))
		}, "key usage was another"},
		"usage of any kind": {func(t *testing.T, spec Spec, path string) {
			mustWrite(t, path, reissue(t, spec, func(c *x509.Certificate) { c.ExtKeyUsage = nil }))
		}, "key usage was another"},
		"mail address": {func(t *testing.T, spec Spec, path string) {
			mustWrite(t, path, reissue(t, spec, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }))
		}, "was good for what is not the component's"},
		"a CA": {func(t *testing.T, spec Spec, path string) {
			mustWrite(t, path, reissue(t, spec, func(c *x509.Certificate) { c.IsCA = true }))
		}, "was a CA"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			mustEnsure(t, spec, start)
			test.spoil(t, spec, spec.Layout.PKI(SchedulerServing))
			changes := mustEnsure(t, spec, start)
			if len(changes) != 1 || filepath.Base(changes[0].File) != SchedulerServing || !strings.HasPrefix(changes[0].Reason, test.reason) {
				t.Errorf("changes %+v, want %s because it %q", changes, SchedulerServing, test.reason)
			}
			verifyAll(t, spec, start)
		})
	}
}

// reissue is the scheduler's serving certificate with a difference.
func reissue(t *testing.T, spec Spec, change func(*x509.Certificate)) string {
	t.Helper()
	c := mustPair(t, spec.Layout.PKI(SchedulerServing)).cert()
	template := &x509.Certificate{
		Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, KeyUsage: c.KeyUsage,
		ExtKeyUsage: c.ExtKeyUsage, DNSNames: c.DNSNames, IPAddresses: c.IPAddresses, BasicConstraintsValid: true,
	}
	change(template)
	return sign(t, spec, template)
}

// sign makes a certificate of the cluster CA and its key.
func sign(t *testing.T, spec Spec, template *x509.Certificate) string {
	t.Helper()
	ca, err := parsePair([]byte(mustRead(t, spec.Layout.PKI(ClusterCACert))), []byte(mustRead(t, spec.Layout.PKI(ClusterCAKey))))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert(), key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(text)
}

// What the calendar does to certificates made at start.
func TestTime(t *testing.T) {
	all := len(wantedLeaves) + 1 // and admin.yaml
	tests := map[string]struct {
		now     time.Time
		changes int
		reason  string
	}{
		"the same moment":          {start, 0, ""},
		"an hour back":             {start.Add(-time.Hour), 0, ""},
		"before renewal":           {start.Add(275 * day), 0, ""},
		"at renewal":               {start.Add(275*day + time.Second), all, "was to end at 2027-05-01T10:00:00Z"},
		"after the end":            {start.Add(366 * day), all, "had ended at 2027-05-01T10:00:00Z"},
		"after years switched off": {start.Add(3000 * day), all, "had ended at 2027-05-01T10:00:00Z"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			mustEnsure(t, spec, start)
			changes := mustEnsure(t, spec, test.now)
			if len(changes) != test.changes {
				t.Errorf("changes %+v, want %d", changes, test.changes)
			}
			if len(changes) > 0 && changes[0].Reason != test.reason {
				t.Errorf("reason %q, want %q", changes[0].Reason, test.reason)
			}
			verifyAll(t, spec, test.now)
		})
	}
}

// A clock that was ahead for a while has made certificates that are not valid yet.
func TestClockWasAhead(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	mustEnsure(t, spec, start.Add(500*day))
	changes := mustEnsure(t, spec, start.Add(day))
	if len(changes) == 0 || !strings.HasPrefix(changes[0].Reason, "was not valid before 2027-09-13") {
		t.Errorf("changes %+v, want certificates that are valid now", changes)
	}
	verifyAll(t, spec, start.Add(day))
}

// Certificates end with their CA, and are not renewed for nothing until then.
func TestEndOfCA(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	end := start.Add(3650 * day)
	changes := mustEnsure(t, spec, end.Add(-200*day))
	if len(changes) == 0 || !changes[0].Until.Equal(end) {
		t.Fatalf("changes %+v, want an end at %s", changes, end)
	}
	for now := end.Add(-199 * day); now.Before(end); now = now.Add(day) {
		if changes := mustEnsure(t, spec, now); len(changes) > 0 {
			t.Fatalf("at %s: %+v, want no change", now, changes)
		}
	}
	verifyAll(t, spec, end)
	before := contents(t, spec.Layout.Data)
	_, err := Ensure(spec, end.Add(time.Second))
	if err == nil || !strings.Contains(err.Error(), "the cluster CA ended at 2036-04-28T10:00:00Z: set the clock, or put") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, contents(t, spec.Layout.Data)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
}

// What the error tells to do at the end of a CA does help.
func TestCAIsProlonged(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	now := start.Add(3649 * day)
	for _, ca := range authorities() {
		p, err := parsePair([]byte(mustRead(t, spec.Layout.PKI(ca.crtFile))), []byte(mustRead(t, spec.Layout.PKI(ca.keyFile))))
		if err != nil {
			t.Fatal(err)
		}
		longer := *p.cert()
		longer.SerialNumber, longer.NotAfter = nil, now.Add(5000*day)
		der, err := x509.CreateCertificate(rand.Reader, &longer, &longer, p.key.Public(), p.key)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, spec.Layout.PKI(ca.crtFile), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	changes := mustEnsure(t, spec, now)
	if len(changes) != len(wantedLeaves)+1 || !changes[0].Until.Equal(now.Add(365*day)) {
		t.Errorf("changes %+v, want all leaves for a year", changes)
	}
	verifyAll(t, spec, now.Add(364*day))
}
