// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is made once is not replaced, and where it is wrong, nothing is written.
func TestEnsureRefuses(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, spec Spec)
		now   time.Time
		want  string // with PKI for the folder
	}{
		"CA without key": {spoil: func(t *testing.T, s Spec) { mustRemove(t, s.Layout.PKI(ClusterCAKey)) },
			want: "read cluster CA: its key PKI/cluster-ca.key is missing, but PKI/cluster-ca.crt is there: restore the key from a backup"},
		"CA without certificate": {spoil: func(t *testing.T, s Spec) { mustRemove(t, s.Layout.PKI(EtcdCACert)) },
			want: "read etcd CA: PKI/etcd-ca.crt is missing, but its key PKI/etcd-ca.key is there: restore the certificate from a backup"},
		"lost CA": {spoil: func(t *testing.T, s Spec) {
			mustRemove(t, s.Layout.PKI(FrontProxyCAKey), s.Layout.PKI(FrontProxyCACert))
		}, want: "read front-proxy CA: front-proxy-ca.crt and front-proxy-ca.key are missing in PKI, but front-proxy-client.pem, which it signed, is there: restore both"},
		"lost service account key": {spoil: func(t *testing.T, s Spec) { mustRemove(t, s.Layout.PKI(ServiceAccountKey)) },
			want: "read service account key: PKI/service-account.key is missing: restore it from a backup"},
		"damaged service account key": {spoil: func(t *testing.T, s Spec) { mustWrite(t, s.Layout.PKI(ServiceAccountKey), "") },
			want: "read service account key PKI/service-account.key: there is no private key in it: restore it from a backup"},
		"cut service account key": {spoil: func(t *testing.T, s Spec) {
			mustWrite(t, s.Layout.PKI(ServiceAccountKey), "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n")
		}, want: "read service account key PKI/service-account.key: x509: failed to parse EC private key"},
		"key of another CA": {spoil: func(t *testing.T, s Spec) {
			mustWrite(t, s.Layout.PKI(ClusterCAKey), mustRead(t, s.Layout.PKI(EtcdCAKey)))
		}, want: "read cluster CA: PKI/cluster-ca.crt and PKI/cluster-ca.key do not go together (tls: private key does not match public key): restore both"},
		"damaged CA": {spoil: func(t *testing.T, s Spec) { mustWrite(t, s.Layout.PKI(ClusterCACert), "-----BEGIN CERTIFICATE-----") },
			want: "read cluster CA: PKI/cluster-ca.crt and PKI/cluster-ca.key do not go together (tls: failed to find any PEM data in certificate input): restore both"},
		"leaf for a CA": {spoil: func(t *testing.T, s Spec) {
			text := mustRead(t, s.Layout.PKI(APIServer))
			mustWrite(t, s.Layout.PKI(ClusterCACert), text)
			mustWrite(t, s.Layout.PKI(ClusterCAKey), text)
		}, want: "read cluster CA: PKI/cluster-ca.crt is not the certificate of a CA"},
		"two certificates": {spoil: func(t *testing.T, s Spec) {
			text := mustRead(t, s.Layout.PKI(ClusterCACert))
			mustWrite(t, s.Layout.PKI(ClusterCACert), text+text)
		}, want: "read cluster CA: PKI/cluster-ca.crt holds 2 certificates: leave only the one of its key"},
		"clock in the past": {now: time.Date(2026, 4, 30, 0, 0, 0, 0, time.UTC),
			want: "the clock says 2026-04-30T00:00:00Z, but the cluster CA is valid from 2026-05-01T09:00:00Z: set the clock"},
		"clock without battery": {now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
			want: "the clock says 2020-01-01T00:00:00Z, which is before this program was made: set the clock"},
		"CA is a folder": {spoil: func(t *testing.T, s Spec) {
			mustRemove(t, s.Layout.PKI(ClusterCACert))
			if err := os.Mkdir(s.Layout.PKI(ClusterCACert), 0o700); err != nil {
				t.Fatal(err)
			}
		}, want: "read cluster CA: read PKI/cluster-ca.crt: is a directory"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			mustEnsure(t, spec, start)
			if test.spoil != nil {
				test.spoil(t, spec)
			}
			now := test.now
			if now.IsZero() {
				now = start
			}
			mustRemove(t, spec.Layout.PKI(Admin)) // to be written, were it not refused
			before := contents(t, spec.Layout.Data)
			changes, err := Ensure(spec, now)
			if err == nil {
				t.Fatalf("no error, and changes %+v", changes)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one message:\n%v", err)
			}
			if got := strings.ReplaceAll(err.Error(), spec.Layout.PKIDir(), "PKI"); !strings.HasPrefix(got, test.want) {
				t.Errorf("error\n%s, want\n%s", got, test.want)
			}
			if diff := cmp.Diff(before, contents(t, spec.Layout.Data)); diff != "" {
				t.Errorf("files changed (-before +after):\n%s", diff)
			}
		})
	}
}

// All that is wrong is told at once.
func TestEnsureTellsAllProblems(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	mustRemove(t, spec.Layout.PKI(ClusterCAKey), spec.Layout.PKI(EtcdCACert), spec.Layout.PKI(ServiceAccountKey))
	_, err := Ensure(spec, start)
	for _, want := range []string{"cluster CA", "etcd CA", "service account key"} {
		if err == nil || !strings.Contains(err.Error(), "read "+want) {
			t.Errorf("error %v does not tell of the %s", err, want)
		}
	}
}

// Where a lost key's certificates were removed, as the error says, a new one is
// made.
func TestLostRootsAreMadeAnew(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	mustRemove(t, spec.Layout.PKI(ServiceAccountKey), spec.Layout.PKI(ClusterCAKey), spec.Layout.PKI(ClusterCACert))
	etcdCA := mustRead(t, spec.Layout.PKI(EtcdCACert))
	for file := range wantedLeaves {
		mustRemove(t, spec.Layout.PKI(file))
	}
	mustEnsure(t, spec, start)
	verifyAll(t, spec, start)
	if mustRead(t, spec.Layout.PKI(EtcdCACert)) != etcdCA {
		t.Error("the etcd CA was replaced")
	}
}

// One file that cannot be written leaves the others to be.
func TestOneFailureLeavesTheRest(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	mustRemove(t, spec.Layout.PKI(Scheduler), spec.Layout.PKI(EtcdPeer))
	if err := os.Mkdir(spec.Layout.PKI(Scheduler), 0o700); err != nil {
		t.Fatal(err)
	}
	changes, err := Ensure(spec, start)
	if err == nil || !strings.Contains(err.Error(), "scheduler.pem: is a directory") {
		t.Errorf("error %v, want that scheduler.pem is a directory", err)
	}
	if diff := cmp.Diff([]string{"etcd-peer.pem"}, changed(changes)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestSpecIsValidated(t *testing.T) {
	tests := map[string]struct {
		change func(*Spec)
		want   string
	}{
		"relative folder":      {func(s *Spec) { s.Layout.Data = "data" }, `data folder "data": use an absolute path`},
		"no name":              {func(s *Spec) { s.NodeName = "" }, `node name "": use lower case letters, digits, '-' and '.'`},
		"upper case":           {func(s *Spec) { s.NodeName = "One" }, `node name "One"`},
		"domain":               {func(s *Spec) { s.ClusterDomain = "cluster local" }, `cluster domain "cluster local": use a DNS name such as cluster.local`},
		"no node address":      {func(s *Spec) { s.NodeIPs = nil }, "node addresses: there is none"},
		"no service address":   {func(s *Spec) { s.ServiceIPs = nil }, "address of the service kubernetes.default: there is none"},
		"zone":                 {func(s *Spec) { s.NodeIPs = ips("fe80::1%eth0") }, "address fe80::1%eth0: use one that others can reach, without a zone"},
		"unspecified":          {func(s *Spec) { s.NodeIPs = ips("::") }, "address ::: use one that others can reach"},
		"zero address":         {func(s *Spec) { s.ServiceIPs = []netip.Addr{{}} }, "address invalid IP: use one"},
		"SAN with port":        {func(s *Spec) { s.TLSSANs = []string{"a.example.com:6443"} }, `TLS SAN "a.example.com:6443": use a DNS name, without port or scheme, or an IP address`},
		"SAN with scheme":      {func(s *Spec) { s.TLSSANs = []string{"https://a.example.com"} }, `TLS SAN "https://a.example.com"`},
		"SAN with zone":        {func(s *Spec) { s.TLSSANs = []string{"fe80::1%eth0"} }, `TLS SAN "fe80::1%eth0"`},
		"SAN not ASCII":        {func(s *Spec) { s.TLSSANs = []string{"bücher.example.com"} }, `TLS SAN "bücher.example.com"`},
		"bare wildcard":        {func(s *Spec) { s.TLSSANs = []string{"*."} }, `TLS SAN "*."`},
		"always renewed":       {func(s *Spec) { s.RenewBefore = 365 * day }, "certificates that last 8760h0m0s cannot be renewed 8760h0m0s before their end"},
		"lifetime in the past": {func(s *Spec) { s.Lifetime = -day }, "certificates that last -24h0m0s"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			test.change(&spec)
			changes, err := Ensure(spec, start)
			if err == nil || !strings.HasPrefix(err.Error(), "make certificates: "+test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if len(changes) > 0 {
				t.Errorf("changes %+v", changes)
			}
		})
	}
}
