// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shown replaces what differs from run to run.
func shown(t *testing.T, spec Spec, identity string) string {
	t.Helper()
	admin := mustPair(t, spec.Layout.PKI(Admin))
	key, err := admin.keyPEM()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	return strings.NewReplacer(
		spec.Layout.PKIDir(), "PKI",
		encode([]byte(mustRead(t, spec.Layout.PKI(ClusterCACert)))), "CA",
		encode(admin.certPEM()), "CERT",
		encode(key), "KEY",
	).Replace(mustRead(t, spec.Layout.Kubeconfig(identity)))
}

func TestKubeconfigs(t *testing.T) {
	const admin = kubeconfigHead + `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: CA
    server: https://192.0.2.1:6443
  name: waggle-kube
contexts:
- context:
    cluster: waggle-kube
    user: admin
  name: admin@waggle-kube
current-context: admin@waggle-kube
kind: Config
users:
- name: admin
  user:
    client-certificate-data: CERT
    client-key-data: KEY
`
	const scheduler = kubeconfigHead + `apiVersion: v1
clusters:
- cluster:
    certificate-authority: PKI/cluster-ca.crt
    server: https://127.0.0.1:6443
  name: waggle-kube
contexts:
- context:
    cluster: waggle-kube
    user: scheduler
  name: scheduler@waggle-kube
current-context: scheduler@waggle-kube
kind: Config
users:
- name: scheduler
  user:
    client-certificate: PKI/scheduler.pem
    client-key: PKI/scheduler.pem
`
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	for identity, want := range map[string]string{
		"admin":              admin,
		"scheduler":          scheduler,
		"controller-manager": strings.NewReplacer("PKI/scheduler", "PKI/controller-manager", "scheduler", "controller-manager").Replace(scheduler),
		"kubelet":            strings.NewReplacer("PKI/scheduler", "PKI/kubelet-client", "scheduler", "kubelet").Replace(scheduler),
	} {
		if diff := cmp.Diff(want, shown(t, spec, identity)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", identity, diff)
		}
	}
}

func TestKubeconfigsOverIPv6(t *testing.T) {
	spec := testSpec(t)
	spec.NodeIPs, spec.Port = ips("2001:db8::1"), 7443
	mustEnsure(t, spec, start)
	for identity, want := range map[string]string{
		"admin": "https://[2001:db8::1]:7443", "scheduler": "https://[::1]:7443",
	} {
		if text := shown(t, spec, identity); !strings.Contains(text, "server: "+want+"\n") {
			t.Errorf("%s has another server than %s:\n%s", identity, want, text)
		}
	}
}

// A component's kubeconfig names files and stays; the admin's follows its
// certificate.
func TestKubeconfigsAtRenewal(t *testing.T) {
	spec := testSpec(t)
	mustEnsure(t, spec, start)
	now := start.Add(300 * day)
	kubeconfigs := make(map[string]Change)
	for _, c := range mustEnsure(t, spec, now) {
		if strings.HasSuffix(c.File, ".yaml") {
			kubeconfigs[c.File] = c
		}
	}
	path := spec.Layout.Kubeconfig("admin")
	want := map[string]Change{path: {File: path, Reason: "had another client certificate", Until: now.Add(365 * day)}}
	if diff := cmp.Diff(want, kubeconfigs); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if text := shown(t, spec, "admin"); !strings.Contains(text, "client-certificate-data: CERT\n") || !strings.Contains(text, "client-key-data: KEY\n") {
		t.Errorf("admin's kubeconfig has not the certificate of admin.pem:\n%s", text)
	}
}

// What kubectl writes into the file, such as a namespace, is left, and what makes
// it useless is not.
func TestEditedKubeconfig(t *testing.T) {
	tests := map[string]struct {
		old, new string
		reason   string
	}{
		"namespace":      {"    user: admin\n", "    user: admin\n    namespace: web\n", ""},
		"other cluster":  {"contexts:\n", "- cluster:\n    server: https://192.0.2.99\n  name: other\ncontexts:\n", ""},
		"other context":  {"current-context: admin@waggle-kube", "current-context: other", ""},
		"proxy":          {"    server:", "    proxy-url: http://192.0.2.80\n    server:", ""},
		"other server":   {"192.0.2.1:6443", "192.0.2.99:6443", "had another server or CA"},
		"no context":     {"current-context: admin@waggle-kube", "current-context: ''", "lacked its context"},
		"other user":     {"    user: admin\n", "    user: root\n", "lacked its context"},
		"no YAML":        {"apiVersion: v1", "\t{", "was damaged"},
		"another's data": {"client-key-data: ", "client-key-data: AAAA", "had another client certificate"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			mustEnsure(t, spec, start)
			path := spec.Layout.Kubeconfig("admin")
			before := mustRead(t, path)
			edited := strings.Replace(before, test.old, test.new, 1)
			if edited == before {
				t.Fatalf("the file has no %q:\n%s", test.old, before)
			}
			mustWrite(t, path, edited)
			changes := mustEnsure(t, spec, start.Add(time.Hour))
			if test.reason == "" {
				if len(changes) > 0 || mustRead(t, path) != edited {
					t.Errorf("changes %+v, want none", changes)
				}
				return
			}
			if len(changes) != 1 || changes[0].File != path || changes[0].Reason != test.reason {
				t.Errorf("changes %+v, want that it %s", changes, test.reason)
			}
			if diff := cmp.Diff(before, mustRead(t, path)); diff != "" {
				t.Errorf("not as it was (-want +got):\n%s", diff)
			}
		})
	}
}
