// SPDX-License-Identifier: Apache-2.0

// Package upstream gives the files of package pki to the code of Kubernetes and
// etcd that reads them. It is apart so that pki's own tests build in a moment.
package upstream

import (
	"crypto/ecdsa"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/keyutil"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/pki"
)

func made(t *testing.T) layout.Layout {
	t.Helper()
	l := layout.Layout{Data: filepath.Join(t.TempDir(), "data")}
	now := time.Now()
	if _, err := pki.Ensure(pki.Spec{
		Layout: l, NodeName: "one",
		NodeIPs:    []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		ServiceIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
	}, now); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.EnsureEncryptionConfig(l, now); err != nil {
		t.Fatal(err)
	}
	return l
}

// One file is certificate and key to the apiserver and the components that serve
// as it does; a CA's two files are that to the controller-manager's signer.
func TestServingFiles(t *testing.T) {
	l := made(t)
	pems, err := filepath.Glob(l.PKI("*.pem"))
	if err != nil || len(pems) != 14 {
		t.Fatalf("found %v, error %v, want 14 certificates", pems, err)
	}
	for _, path := range pems {
		if _, err := dynamiccertificates.NewDynamicServingContentFromFiles("test", path, path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for crt, key := range map[string]string{pki.ClusterCACert: pki.ClusterCAKey, pki.FrontProxyCACert: pki.FrontProxyCAKey, pki.EtcdCACert: pki.EtcdCAKey} {
		if _, err := dynamiccertificates.NewDynamicServingContentFromFiles("test", l.PKI(crt), l.PKI(key)); err != nil {
			t.Errorf("%s: %v", crt, err)
		}
		if _, err := dynamiccertificates.NewDynamicCAContentFromFile("test", l.PKI(crt)); err != nil {
			t.Errorf("%s: %v", crt, err)
		}
		if _, err := keyutil.PrivateKeyFromFile(l.PKI(key)); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// The key signs tokens, and tells its public half to those who verify them.
func TestServiceAccountKey(t *testing.T) {
	path := made(t).PKI(pki.ServiceAccountKey)
	private, err := keyutil.PrivateKeyFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	public, err := keyutil.PublicKeysFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || len(public) != 1 || !key.PublicKey.Equal(public[0]) {
		t.Errorf("private key %T, public keys %v, want one of ECDSA and its half", private, public)
	}
}

func TestEtcdFiles(t *testing.T) {
	l := made(t)
	for _, server := range []string{pki.EtcdServer, pki.EtcdPeer} {
		info := transport.TLSInfo{CertFile: l.PKI(server), KeyFile: l.PKI(server), TrustedCAFile: l.PKI(pki.EtcdCACert), ClientCertAuth: true}
		if _, err := info.ServerConfig(); err != nil {
			t.Errorf("%s for a server: %v", server, err)
		}
		if _, err := info.ClientConfig(); err != nil {
			t.Errorf("%s for a client: %v", server, err)
		}
	}
}

// Kubeconfigs lead clients to a server that knows them.
func TestKubeconfigsConnect(t *testing.T) {
	for identity, want := range map[string]string{
		pki.AdminKubeconfig:             pki.AdminUser + " in waggle:cluster-admins",
		pki.ControllerManagerKubeconfig: "system:kube-controller-manager in ",
		pki.SchedulerKubeconfig:         "system:kube-scheduler in ",
		pki.KubeletKubeconfig:           "system:node:one in system:nodes",
	} {
		t.Run(identity, func(t *testing.T) {
			l := made(t)
			url := serve(t, l)
			config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig(identity))
			if err != nil {
				t.Fatal(err)
			}
			// The address of the test's server; its certificate is good for the one
			// in the file.
			name, _, _ := strings.Cut(strings.TrimPrefix(config.Host, "https://"), ":")
			config.Host, config.ServerName = url, name
			client, err := rest.HTTPClientFor(config)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := resp.Header.Get("User"); got != want {
				t.Errorf("user %q, want %q", got, want)
			}
		})
	}
}

// serve answers with the user that the client's certificate names.
func serve(t *testing.T, l layout.Layout) string {
	t.Helper()
	info := transport.TLSInfo{CertFile: l.PKI(pki.APIServer), KeyFile: l.PKI(pki.APIServer), TrustedCAFile: l.PKI(pki.ClusterCACert), ClientCertAuth: true}
	config, err := info.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		w.Header().Set("User", subject.CommonName+" in "+strings.Join(subject.Organization, ","))
	}))
	// StartTLS would serve a certificate of its own.
	server.Listener = tls.NewListener(server.Listener, config)
	server.Start()
	t.Cleanup(server.Close)
	return "https://" + server.Listener.Addr().String()
}

func TestEncryptionConfigEncrypts(t *testing.T) {
	l := made(t)
	ctx := t.Context()
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, l.EncryptionConfig(), false, "test")
	if err != nil {
		t.Fatal(err)
	}
	secrets := config.Transformers[schema.GroupResource{Resource: "secrets"}]
	if secrets == nil || len(config.Transformers) != 1 {
		t.Fatalf("encrypted are %v, want secrets alone", config.Transformers)
	}
	data := value.DefaultContext("/registry/secrets/default/a")
	stored, err := secrets.TransformToStorage(ctx, []byte("hidden"), data)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(stored), "k8s:enc:secretbox:v1:key-") || strings.Contains(string(stored), "hidden") {
		t.Errorf("stored as %q", stored)
	}
	for _, text := range []string{string(stored), "hidden"} { // what was stored in the clear, too
		got, _, err := secrets.TransformFromStorage(ctx, []byte(text), data)
		if err != nil || string(got) != "hidden" {
			t.Errorf("read %q, error %v", got, err)
		}
	}
}

// The apiserver refuses what EnsureEncryptionConfig refuses, so that nobody is kept
// from a file that would work.
func TestEncryptionConfigIsRefusedByBoth(t *testing.T) {
	l := made(t)
	text, err := os.ReadFile(l.EncryptionConfig())
	if err != nil {
		t.Fatal(err)
	}
	short := strings.Replace(string(text), "secret: ", "secret: AAAA", 1)
	if err := os.WriteFile(l.EncryptionConfig(), []byte(short), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.EnsureEncryptionConfig(l, time.Now()); err == nil {
		t.Error("we take a key of 35 bytes")
	}
	if _, err := encryptionconfig.LoadEncryptionConfig(t.Context(), l.EncryptionConfig(), false, "test"); err == nil {
		t.Error("the apiserver takes a key of 35 bytes")
	}
}
