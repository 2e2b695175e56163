// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/metrics"
	"k8s.io/client-go/transport"

	"github.com/waggle-net/waggle/test/await"
)

// TestRenewedCertificate is one that is replaced on the disk while a connection is
// open. Whoever looks after that ends with the client.
func TestRenewedCertificate(t *testing.T) {
	// How often client-go looks at the file: 5 min.
	usual := transport.CertCallbackRefreshDuration
	transport.CertCallbackRefreshDuration = 100 * time.Millisecond
	ended := counter{}
	metrics.TransportCertRotationGCCalls = &ended
	t.Cleanup(func() {
		transport.CertCallbackRefreshDuration = usual
		metrics.TransportCertRotationGCCalls = &counter{}
	})
	renewCertificate(t)
	await.Until(t, func() error {
		runtime.GC()
		if ended.Load() == 0 {
			return errors.New("the client was not collected")
		}
		return nil
	})
}

func renewCertificate(t *testing.T) {
	s := newSetup(t)
	a := newHost(t, s.ca, "127.0.0.1", nil)
	c := s.client(a.url())
	wantFrom(t, c, a)
	s.write("client.pem", s.ca.client(t, "renewed"))
	await.Until(t, func() error {
		if _, err := get(t, c); err != nil {
			return err
		}
		q := a.seen()
		if got := q[len(q)-1].client; got != "renewed" {
			return fmt.Errorf("the client certificate is of %s", got)
		}
		return nil
	})
}

// counter is a metric of client-go.
type counter struct{ atomic.Int64 }

func (c *counter) Increment() { c.Add(1) }

func TestRenewedToken(t *testing.T) {
	s := newSetup(t)
	s.write("token", []byte("old\n"))
	s.kubeconfig("https://198.51.100.1:6443", "tokenFile: token")
	const valid = "Bearer new"
	a := newHost(t, s.ca, "127.0.0.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != valid {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	c := s.client(a.url())
	if _, err := get(t, c); err != nil {
		t.Fatal(err)
	}
	p := c.Problem()
	if p == nil || !strings.Contains(p.Message, "does not accept our credentials") || !strings.Contains(p.Remedy, s.cfg.Kubeconfig) {
		t.Errorf("the problem is %+v", p)
	}
	s.write("token", []byte("new\n"))
	await.Until(t, func() error {
		if _, err := get(t, c); err != nil {
			return err
		}
		if p := c.Problem(); p != nil {
			return errors.New(p.Message)
		}
		return nil
	})
	if q := a.seen(); q[0].token != "Bearer old" || q[len(q)-1].token != valid {
		t.Errorf("the tokens are %q and %q", q[0].token, q[len(q)-1].token)
	}
}

// TestREST makes another client from our configuration.
func TestREST(t *testing.T) {
	s := newSetup(t)
	a, b := newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil)
	c := s.client(a.url(), b.url())
	a.stop()
	cfg := c.REST()
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := httpClient.Get(cfg.Host + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != b.addr.String() {
		t.Errorf("the answer is %q, %v", text, err)
	}
	// Its users may look at the TLS settings, and close idle connections.
	tlsConfig, err := utilnet.TLSClientConfig(cfg.Transport)
	if err != nil || tlsConfig.MinVersion < tls.VersionTLS12 {
		t.Errorf("the TLS settings are %v, %v", tlsConfig, err)
	}
	cfg.Host = "https://kube.example"
	if c.REST().Host != anyServer {
		t.Error("the configuration is not a copy")
	}
}
