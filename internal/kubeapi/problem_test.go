// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/await"
)

func TestProblem(t *testing.T) {
	s := newSetup(t)
	a, b := newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "::1", nil)
	c := s.client(a.url())
	c.Learn([]netip.AddrPort{b.addr})
	want := func(problem bool) *Problem {
		t.Helper()
		p := c.Problem()
		if (p != nil) != problem {
			t.Errorf("the problem is %+v, want one: %v", p, problem)
		}
		return p
	}
	want(false) // nobody asked
	a.stop()
	wantFrom(t, c, b)
	want(false) // one answers
	for _, server := range c.Servers() {
		if failed := server.Err != nil; failed != (server.URL == a.url()) || server.InUse == failed {
			t.Errorf("server %+v", server)
		}
	}

	b.stop()
	if _, err := get(t, c); err == nil {
		t.Fatal("a request had an answer")
	}
	first := want(true)
	if _, err := get(t, c); err == nil {
		t.Fatal("a request had an answer")
	}
	if second := want(true); second.Since != first.Since || first.Since.IsZero() {
		t.Errorf("since %v and %v, want the same", first.Since, second.Since)
	}
	for _, part := range []string{a.url(), b.url(), "connection refused", first.Since.Format(time.RFC3339)} {
		if !strings.Contains(first.Message, part) {
			t.Errorf("the message lacks %q: %s", part, first.Message)
		}
	}
	if first.Remedy != "start the API server, or correct its address and port" {
		t.Errorf("the remedy is %q", first.Remedy)
	}
	if n := s.log.count("API server does not answer"); n != 2 {
		t.Errorf("logged %d times that a server does not answer, want once for each", n)
	}

	b.start()
	wantFrom(t, c, b)
	want(false)
	if n := s.log.count("API server answers again"); n != 1 {
		t.Errorf("logged %d times that a server answers again, want 1", n)
	}
	b.stop()
	if _, err := get(t, c); err == nil {
		t.Fatal("a request had an answer")
	}
	if again := want(true); !again.Since.After(first.Since) {
		t.Errorf("since %v, want later than the first time, %v", again.Since, first.Since)
	}
}

// TestRemedy is what is said of failures that real servers cause.
func TestRemedy(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, s *setup, a *host)
		want   string
	}{
		{"another CA", func(t *testing.T, s *setup, a *host) {
			s.write("ca.pem", newAuthority(t).pem())
		}, "put the CA of this cluster into kubeconfig"},
		{"another name", func(t *testing.T, s *setup, a *host) {
			a.cert = s.ca.server(t, "192.0.2.1")
		}, "issue a certificate to the API server that is valid for this address"},
		{"expired", func(t *testing.T, s *setup, a *host) {
			a.cert = expired(t, s.ca)
		}, "renew the API server's certificate"},
		{"not TLS", func(t *testing.T, _ *setup, a *host) {
			a.addr = newPlain(t)
		}, "check that an API server runs there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSetup(t)
			a := &host{t: t, addr: freePort(t, "127.0.0.1"), ca: s.ca, cert: s.ca.server(t, "127.0.0.1")}
			at := a.addr
			if tt.damage(t, s, a); a.addr == at {
				a.start()
				t.Cleanup(a.stop)
			}
			c := s.client(a.url())
			if _, err := get(t, c); err == nil {
				t.Fatal("a request had an answer")
			}
			if p := c.Problem(); p == nil || !strings.HasPrefix(p.Remedy, tt.want) {
				t.Errorf("the problem is %+v, want the remedy %q", p, tt.want)
			}
		})
	}
}

// newPlain is a server without TLS.
func newPlain(t *testing.T) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func expired(t *testing.T, ca *authority) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := template(t, "apiserver")
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	template.IPAddresses = append(template.IPAddresses, netip.MustParseAddr("127.0.0.1").AsSlice())
	cert := sign(t, template, ca.cert, key, ca.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// TestLostCertificate is a client certificate that is gone when a connection is
// made.
func TestLostCertificate(t *testing.T) {
	s := newSetup(t)
	a := newHost(t, s.ca, "127.0.0.1", nil)
	c := s.client(a.url())
	if err := os.Remove(s.path("client.pem")); err != nil {
		t.Fatal(err)
	}
	want := "restore the file " + s.path("client.pem")
	await.Until(t, func() error { // client-go reads it once a second
		a.stop()
		a.start()
		if _, err := get(t, c); err == nil {
			return errors.New("a request had an answer")
		}
		if p := c.Problem(); p == nil || p.Remedy != want {
			return fmt.Errorf("the problem is %+v, want the remedy %q", p, want)
		}
		return nil
	})
}
