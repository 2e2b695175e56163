// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// newPair makes a certificate for a client.
func newPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// newServer answers in the place of the API, to who brings a certificate, and returns
// its kubeconfig.
func newServer(t *testing.T, answers map[string]string) []byte {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.Path]
		if len(r.TLS.PeerCertificates) != 1 || !ok {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, text) // the client sees it
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	cert, key := newPair(t)
	type object = map[string]any
	text, err := yaml.Marshal(object{
		"clusters": []object{{"cluster": object{
			"server":                     server.URL,
			"certificate-authority-data": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}}},
		"users": []object{{"user": object{"client-certificate-data": cert, "client-key-data": key}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAPI(t *testing.T) {
	a, err := newAPI(newServer(t, map[string]string{"/version": `{"major": "1"}`, "/bad": "{"}))
	if err != nil {
		t.Fatal(err)
	}
	var version struct{ Major string }
	if err := a.get(t.Context(), "/version", &version); err != nil || version.Major != "1" {
		t.Errorf("got %+v, %v", version, err)
	}
	if err := a.get(t.Context(), "/other", &version); !errors.As(err, new(pending)) || !strings.Contains(err.Error(), "403") {
		t.Errorf("a refusal is %v, want it pending", err)
	}
	if err := a.get(t.Context(), "/bad", &version); err == nil {
		t.Error("half an object was read")
	}
	for _, damaged := range []string{"", "{", "clusters: []", "clusters: [{}]\nusers: [{user: {client-key-data: eA==}}]"} {
		if _, err := newAPI([]byte(damaged)); err == nil {
			t.Errorf("read %q", damaged)
		}
	}
}

func TestPods(t *testing.T) {
	const ready = `{"type": "Ready", "status": "True"}`
	for _, row := range []struct{ name, items, want string }{
		{"none", ``, "it has no pods yet"},
		{"ready", `{"metadata": {"name": "a"}, "status": {"conditions": [` + ready + `]}}`, ""},
		{"waiting", `{"metadata": {"name": "a"}, "status": {"phase": "Pending", "containerStatuses": [
			{"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "no such image"}}}]}},
			{"metadata": {"name": "b"}, "status": {"conditions": [` + ready + `]}}`, "a is ErrImageNeverPull no such image"},
		{"unschedulable", `{"metadata": {"name": "a"}, "status": {"phase": "Pending", "conditions": [
			{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}}`, "a is 0/1 nodes"},
		{"not ready", `{"metadata": {"name": "a"}, "status": {"phase": "Running"}}, {"metadata": {"name": "b"}, "status": {"phase": "Pending"}}`,
			"a is Running, b is Pending"},
	} {
		a, err := newAPI(newServer(t, map[string]string{"/api/v1/namespaces/demo/pods": `{"items": [` + row.items + `]}`}))
		if err != nil {
			t.Fatal(err)
		}
		c := &cluster{Options: Options{Demo: Demo{Namespace: "demo"}}, api: a}
		if got := c.pods(t.Context()); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}
