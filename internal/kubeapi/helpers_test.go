// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// host is an API server that can stop, and start again at its address.
type host struct {
	t       *testing.T
	addr    netip.AddrPort
	ca      *authority // of clients
	cert    tls.Certificate
	handler http.Handler
	running *httptest.Server
	cancel  context.CancelFunc // of the requests that it serves

	mu       sync.Mutex
	requests []request
}

// request is what a host was asked.
type request struct {
	line, proto, host, body, client, token, agent string
}

// newHost runs an API server on a loopback address. Its handler may be nil for one
// that answers everything with its address.
func newHost(t *testing.T, ca *authority, ip string, handler http.Handler) *host {
	t.Helper()
	h := &host{t: t, addr: freePort(t, ip), ca: ca, cert: ca.server(t, ip), handler: handler}
	h.start()
	t.Cleanup(h.stop)
	return h
}

// freePort is where nothing listens.
func freePort(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func (h *host) url() string { return "https://" + h.addr.String() }

func (h *host) start() {
	h.t.Helper()
	l, err := net.Listen("tcp", h.addr.String())
	if err != nil {
		h.t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(h.ca.cert)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.running = &httptest.Server{
		Listener: l,
		Config: &http.Server{
			Handler:           http.HandlerFunc(h.serve),
			ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
			ReadHeaderTimeout: time.Minute,
			BaseContext:       func(net.Listener) context.Context { return ctx },
		},
		EnableHTTP2: true,
		// As kube-apiserver does: who has none is asked for a token.
		TLS: &tls.Config{
			Certificates: []tls.Certificate{h.cert},
			ClientAuth:   tls.VerifyClientCertIfGiven,
			ClientCAs:    clients,
			MinVersion:   tls.VersionTLS12,
		},
	}
	h.running.StartTLS()
}

func (h *host) stop() {
	if h.running == nil {
		return
	}
	// In this order, so that whoever comes back at once does not keep it running.
	h.running.Listener.Close()
	h.cancel()
	h.running.CloseClientConnections()
	h.running.Close()
	h.running = nil
}

func (h *host) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	q := request{
		line: r.Method + " " + r.URL.RequestURI(), proto: r.Proto, host: r.Host, body: string(body),
		token: r.Header.Get("Authorization"), agent: r.UserAgent(),
	}
	if certs := r.TLS.PeerCertificates; len(certs) > 0 {
		q.client = certs[0].Subject.CommonName
	}
	h.mu.Lock()
	h.requests = append(h.requests, q)
	h.mu.Unlock()
	if h.handler != nil {
		h.handler.ServeHTTP(w, r)
		return
	}
	fmt.Fprint(w, h.addr)
}

func (h *host) seen() []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// setup is a folder with credentials, and what a client is made from.
type setup struct {
	t   *testing.T
	ca  *authority
	dir string
	cfg Config
	log *logs
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{t: t, ca: newAuthority(t), dir: t.TempDir(), log: &logs{}}
	s.write("ca.pem", s.ca.pem())
	s.write("client.pem", s.ca.client(t, "system:node:a"))
	s.cfg = Config{
		Kubeconfig: s.path("kubeconfig"),
		CacheFile:  s.path("state/apiservers.json"),
		UserAgent:  "waggled/test",
		Logger:     slog.New(slog.NewTextHandler(s.log, nil)),
	}
	s.kubeconfig("https://198.51.100.1:6443", "client-certificate: client.pem, client-key: client.pem")
	return s
}

func (s *setup) path(name string) string { return filepath.Join(s.dir, name) }

// write replaces a file as a whole.
func (s *setup) write(name string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name)+".new", text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path(name)+".new", s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setup) kubeconfig(server, user string, cluster ...string) {
	s.t.Helper()
	s.write("kubeconfig", fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: %q, certificate-authority: ca.pem%s}}]
users: [{name: u, user: {%s}}]
`, server, strings.Join(append([]string{""}, cluster...), ", "), user))
}

func (s *setup) client(servers ...string) *Client {
	s.t.Helper()
	cfg := s.cfg
	cfg.Servers = servers
	c, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// logs are the lines of a log.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// get asks for something, and returns the body.
func get(t *testing.T, c *Client) (string, error) {
	t.Helper()
	return do(t, c, http.MethodGet, nil)
}

func do(t *testing.T, c *Client, method string, body io.Reader) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, anyServer+"/version", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// wantFrom asks for something, and wants that server to answer.
func wantFrom(t *testing.T, c *Client, h *host) {
	t.Helper()
	got, err := get(t, c)
	if err != nil || got != h.addr.String() {
		t.Errorf("the answer is %q, %v, want %s", got, err, h.addr)
	}
}

// urls are the servers in the order in which they are tried.
func urls(c *Client) (out []string) {
	for _, s := range c.Servers() {
		out = append(out, s.URL+" "+string(s.Source))
	}
	return out
}
