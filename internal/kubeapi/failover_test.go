// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// both runs a test with the loopback address of each family.
func both(t *testing.T, test func(t *testing.T, ip string)) {
	for name, ip := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) { test(t, ip) })
	}
}

func TestRequestsStayWithTheServerThatAnswers(t *testing.T) {
	both(t, func(t *testing.T, ip string) {
		s := newSetup(t)
		a, b := newHost(t, s.ca, ip, nil), newHost(t, s.ca, ip, nil)
		c := s.client(a.url(), b.url())
		wantFrom(t, c, a)
		a.stop()
		wantFrom(t, c, b)
		a.start()
		wantFrom(t, c, b)
		b.stop()
		wantFrom(t, c, a)
		q := a.seen()[0]
		want := request{
			line: "GET /version", proto: "HTTP/2.0", host: a.addr.String(), client: "system:node:a", agent: "waggled/test",
		}
		if q != want {
			t.Errorf("the request is %+v, want %+v", q, want)
		}
	})
}

// TestColdStart is a daemon's start while one server is gone that it knows, of those
// that it has from its kubeconfig and those that it remembers.
func TestColdStart(t *testing.T) {
	both(t, func(t *testing.T, ip string) {
		s := newSetup(t)
		a, b := newHost(t, s.ca, ip, nil), newHost(t, s.ca, ip, nil)
		s.kubeconfig(a.url(), "client-certificate: client.pem, client-key: client.pem")
		s.client().Learn([]netip.AddrPort{b.addr})

		a.stop()
		c := s.client()
		if diff := cmp.Diff([]string{a.url() + " kubeconfig", b.url() + " cached"}, urls(c)); diff != "" {
			t.Errorf("servers, -want +got:\n%s", diff)
		}
		wantFrom(t, c, b)

		a.start()
		b.stop()
		wantFrom(t, s.client(), a)
	})
}

// TestUntrustedServers are those that whoever answers at an address cannot be told
// from a server of the cluster.
func TestUntrustedServers(t *testing.T) {
	both(t, func(t *testing.T, ip string) {
		s := newSetup(t)
		stranger := newHost(t, newAuthority(t), ip, nil)
		other := &host{t: t, addr: freePort(t, ip), ca: s.ca, cert: s.ca.server(t, "elsewhere.example")}
		other.start()
		t.Cleanup(other.stop)
		ours := newHost(t, s.ca, ip, nil)
		c := s.client(stranger.url())
		c.Learn([]netip.AddrPort{other.addr, ours.addr})
		wantFrom(t, c, ours)
		if n := len(stranger.seen()) + len(other.seen()); n != 0 {
			t.Errorf("%d requests reached servers without a valid certificate", n)
		}
	})
}

func TestServerNameOfKubeconfig(t *testing.T) {
	s := newSetup(t)
	a := &host{t: t, addr: freePort(t, "127.0.0.1"), ca: s.ca, cert: s.ca.server(t, "kube.example")}
	a.start()
	t.Cleanup(a.stop)
	s.kubeconfig("https://198.51.100.1:6443", "client-certificate: client.pem, client-key: client.pem", "tls-server-name: kube.example")
	wantFrom(t, s.client(a.url()), a)
}

// TestPathOfServer is an API server behind a path.
func TestPathOfServer(t *testing.T) {
	s := newSetup(t)
	a, b := newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil)
	c := s.client("https://"+freePort(t, "127.0.0.1").String(), a.url()+"/k8s/a%2Fb/", b.url())
	wantFrom(t, c, a)
	a.stop()
	wantFrom(t, c, b)
	if got := a.seen()[0].line + ", " + b.seen()[0].line; got != "GET /k8s/a%2Fb/version, GET /version" {
		t.Errorf("the requests are %s", got)
	}
}

// cut breaks the connection after it has read the request.
var cut = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })

// TestRepeat is what happens to a request that the first server does not answer.
func TestRepeat(t *testing.T) {
	const text = "the body"
	for _, tt := range []struct {
		name   string
		method string
		body   func() io.Reader
		read   bool // by the first server, which then breaks
		again  bool // the second server answers it
	}{
		{"GET", http.MethodGet, func() io.Reader { return nil }, false, true},
		{"GET that was read", http.MethodGet, func() io.Reader { return nil }, true, true},
		{"POST", http.MethodPost, func() io.Reader { return strings.NewReader(text) }, false, true},
		{"POST that was read", http.MethodPost, func() io.Reader { return strings.NewReader(text) }, true, false},
		{"POST of a stream", http.MethodPost, func() io.Reader { return io.MultiReader(strings.NewReader(text)) }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSetup(t)
			a, b := newHost(t, s.ca, "127.0.0.1", cut), newHost(t, s.ca, "127.0.0.1", nil)
			if !tt.read {
				a.stop()
			}
			c := s.client(a.url(), b.url())
			got, err := do(t, c, tt.method, tt.body())
			if again := err == nil && got == b.addr.String(); again != tt.again {
				t.Errorf("the answer is %q, %v, want one of the second server: %v", got, err, tt.again)
			}
			if q := b.seen(); tt.again && (len(q) != 1 || tt.method == http.MethodPost && q[0].body != text) {
				t.Errorf("the second server got %+v", q)
			}
			if n := len(a.seen()); n > 1 {
				t.Errorf("the first server got it %d times", n)
			}
			wantFrom(t, c, b) // what follows goes there at once
			if n := len(a.seen()); n > 1 {
				t.Errorf("the first server got another request")
			}
		})
	}
}

func TestStatusIsAnAnswer(t *testing.T) {
	s := newSetup(t)
	a := newHost(t, s.ca, "127.0.0.1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "starting", http.StatusServiceUnavailable)
	}))
	b := newHost(t, s.ca, "127.0.0.1", nil)
	c := s.client(a.url(), b.url())
	if got, err := get(t, c); err != nil || got != "starting\n" {
		t.Errorf("the answer is %q, %v", got, err)
	}
	if n := len(b.seen()); n != 0 {
		t.Errorf("the other server got %d requests", n)
	}
}

// TestCancelledRequest is no failure of the server.
func TestCancelledRequest(t *testing.T) {
	s := newSetup(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := newHost(t, s.ca, "127.0.0.1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	c := s.client(a.url(), newHost(t, s.ca, "127.0.0.1", nil).url())
	err := c.Core().Get().AbsPath("/version").Do(ctx).Error()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if first := c.Servers()[0]; first.URL != a.url() || first.Err != nil || !first.InUse {
		t.Errorf("the server in use is %+v, want the first without an error", first)
	}
}

// TestManyAtOnce skips no server: only the first of several failures moves on.
func TestManyAtOnce(t *testing.T) {
	s := newSetup(t)
	hosts := []*host{newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil)}
	c := s.client(hosts[0].url(), hosts[1].url(), hosts[2].url())
	wantFrom(t, c, hosts[0])
	hosts[0].stop()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { wantFrom(t, c, hosts[1]) })
	}
	wg.Wait()
	if n := s.log.count("API server does not answer"); n != 1 {
		t.Errorf("logged %d times that the server does not answer, want 1", n)
	}
}

// TestErrors keeps what client-go decides by: after a refused connection a watch
// goes on where it was, and after others everything is listed again.
func TestErrors(t *testing.T) {
	s := newSetup(t)
	var dead []string
	for _, ip := range []string{"127.0.0.1", "::1"} {
		dead = append(dead, "https://"+freePort(t, ip).String())
	}
	_, err := get(t, s.client(dead[0]))
	if _, ours := errors.AsType[attempts](err); ours || !utilnet.IsConnectionRefused(err) {
		t.Errorf("the error of one server is %#v, want its own", err)
	}
	_, err = get(t, s.client(dead...))
	if !utilnet.IsConnectionRefused(err) || !strings.Contains(err.Error(), dead[0]) || !strings.Contains(err.Error(), dead[1]) {
		t.Errorf("the error of two servers is %v", err)
	}
}
