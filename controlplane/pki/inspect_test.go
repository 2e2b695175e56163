// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestInspect(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	mustWrite(t, spec.Layout.PKI(Scheduler), "")
	certs, err := Inspect(spec.Layout.PKIDir())
	if err != nil {
		t.Fatal(err)
	}
	byFile := make(map[string]Cert)
	for _, c := range certs {
		byFile[c.File] = c
	}
	if len(certs) != len(wantedLeaves)+len(caFiles) || len(byFile) != len(certs) {
		t.Errorf("%d certificates, want %d", len(certs), len(wantedLeaves)+len(caFiles))
	}
	const ca = "CN=waggle-kube cluster CA 20260501T100000Z"
	for file, want := range map[string]Cert{
		ClusterCACert: {File: ClusterCACert, Subject: ca, Issuer: ca, SANs: []string{},
			NotBefore: start.Add(-time.Hour), NotAfter: start.Add(3650 * day), CA: true},
		KubeletServing: {File: KubeletServing, Subject: "CN=system:node:one,O=system:nodes", Issuer: ca,
			SANs: []string{"one", "192.0.2.1", "2001:db8::1"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(365 * day)},
		Scheduler: {File: Scheduler, SANs: []string{}, Problem: "there is no certificate in it"},
	} {
		if diff := cmp.Diff(want, byFile[file]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestInspectNothing(t *testing.T) {
	_, err := Inspect(filepath.Join(t.TempDir(), "pki"))
	if err == nil || !strings.Contains(err.Error(), "has a server been started with this data folder?") {
		t.Errorf("error %v", err)
	}
}

func TestRenderCerts(t *testing.T) {
	cert := func(file string, from, until time.Duration, sans ...string) Cert {
		return Cert{File: file, Subject: "CN=s", Issuer: "CN=i", SANs: sans, NotBefore: start.Add(from), NotAfter: start.Add(until)}
	}
	certs := []Cert{
		cert("a.pem", -day, 365*day+time.Minute, "localhost", "::1"),
		cert("b.pem", -day, 47*time.Hour),
		cert("c.pem", -day, -time.Second),
		cert("d.pem", time.Hour, 365*day),
		{File: "e.pem", Problem: "there is no certificate in it"},
		{File: "f.pem", Subject: "CN=\x1b[2J\"\n", Issuer: "CN=ü", NotAfter: start.Add(72 * time.Hour)},
	}
	const want = `FILE   ENDS        LEFT           SUBJECT                        ISSUER     GOOD FOR
a.pem  2027-05-01  365d           CN=s                           CN=i       localhost,::1
b.pem  2026-05-03  47h            CN=s                           CN=i       -
c.pem  2026-05-01  ENDED          CN=s                           CN=i       -
d.pem  2027-05-01  NOT YET VALID  CN=s                           CN=i       -
e.pem  -           UNREADABLE     there is no certificate in it  -          -
f.pem  2026-05-04  3d             CN=\x1b[2J"\n                  CN=\u00fc  -
`
	var got bytes.Buffer
	if err := RenderCerts(&got, certs, start); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
