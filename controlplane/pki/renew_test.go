// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/waggle-net/waggle/test/await"
)

// calendar is a clock whose time can be set without that timers notice, as it is
// with date -s and after a suspend.
type calendar struct {
	*clocktesting.FakeClock // what timers go by

	mu     sync.Mutex
	offset time.Duration
}

func (c *calendar) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.FakeClock.Now().Add(c.offset)
}

func (c *calendar) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// log is what was logged so far.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// take returns the lines since the last call.
func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return strings.Split(strings.TrimSuffix(l.text.String(), "\n"), "\n")
}

// renewing is a running Renew.
type renewing struct {
	t     *testing.T
	clock *calendar
	asked chan struct{} // takes a value for each call for the spec
	log   *log

	mu   sync.Mutex
	spec Spec
}

// renew starts Renew at start, and returns after its first check.
func renew(t *testing.T, spec Spec) *renewing {
	r := &renewing{t: t, spec: spec, log: &log{}, asked: make(chan struct{}),
		clock: &calendar{FakeClock: clocktesting.NewFakeClock(start)}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	get := func() Spec {
		select {
		case r.asked <- struct{}{}:
		case <-ctx.Done():
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.spec
	}
	logger := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey:
				return slog.Attr{}
			case "file":
				a.Value = slog.StringValue(filepath.Base(a.Value.String()))
			}
			return a
		},
	}))
	go func() {
		defer close(done)
		Renew(ctx, get, r.clock, logger)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	<-r.asked
	r.minute()
	return r
}

// minute lets a minute pass, and returns when the check before it is over: Renew
// asks for the spec at the start of each.
func (r *renewing) minute() {
	r.t.Helper()
	await.Until(r.t, func() error {
		if r.clock.HasWaiters() {
			return nil
		}
		return errors.New("Renew has no ticker")
	})
	r.clock.Step(time.Minute)
	<-r.asked
}

// pass lets a time pass at once, and returns when the check after it is over.
func (r *renewing) pass(d time.Duration) {
	r.clock.Step(d)
	<-r.asked
	r.minute()
}

func (r *renewing) set(change func(*Spec)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.spec)
}

// A year of renewals, while a client and a server that read their files for each
// connection never fail.
func TestYearOfRenewals(t *testing.T) {
	t.Parallel() // it waits for the disk
	spec := testSpec(t)
	spec.Lifetime, spec.RenewBefore = 90*day, 30*day
	r := renew(t, spec)
	seen := make(map[string]bool)
	for range 365 {
		handshakes := make(chan error)
		go func() { handshakes <- r.handshakes(seen) }() // while files are replaced
		r.pass(day)
		if err := <-handshakes; err != nil {
			t.Fatalf("at %s: %v", r.clock.Now(), err)
		}
		if err := r.handshakes(seen); err != nil {
			t.Fatalf("at %s: %v", r.clock.Now(), err)
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d certificates of the server in a year, want one to begin with, and one each 60 days", len(seen))
	}
	verifyAll(t, spec, r.clock.Now())
	for _, line := range r.log.take() {
		if !strings.HasPrefix(line, `level=INFO msg="pki file changed"`) {
			t.Errorf("log: %s", line)
		}
	}
}

// handshakes connects the apiserver's clients to it, and etcd's to etcd. It adds
// the serial numbers of the apiserver to seen.
func (r *renewing) handshakes(seen map[string]bool) error {
	for _, c := range []struct{ client, server, ca, name, user string }{
		{KubeletClient, APIServer, ClusterCACert, "127.0.0.1", "system:node:one"},
		{Scheduler, APIServer, ClusterCACert, "kubernetes.default.svc", "system:kube-scheduler"},
		{Admin, APIServer, ClusterCACert, "2001:db8::1", AdminUser},
		{APIServerKubeletClient, KubeletServing, ClusterCACert, "192.0.2.1", KubeletAPIUser},
		{APIServerEtcdClient, EtcdServer, EtcdCACert, "::1", "kube-apiserver-etcd-client"},
		{EtcdPeer, EtcdPeer, EtcdCACert, "192.0.2.1", "one"},
	} {
		server, client, err := r.handshake(c.client, c.server, c.ca, c.name)
		if err != nil {
			return fmt.Errorf("%s to %s: %w", c.client, c.server, err)
		}
		if got := server.PeerCertificates[0].Subject.CommonName; got != c.user {
			return fmt.Errorf("%s is %s to the server, want %s", c.client, got, c.user)
		}
		if c.server == APIServer {
			seen[client.PeerCertificates[0].SerialNumber.String()] = true
		}
	}
	return nil
}

// handshake returns what the server and the client see of each other.
func (r *renewing) handshake(clientFile, serverFile, caFile, name string) (server, client tls.ConnectionState, err error) {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(r.spec.Layout.PKI(caFile))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		return server, client, fmt.Errorf("read CA: %w", err)
	}
	load := func(file string) (*tls.Certificate, error) {
		// Not tls.LoadX509KeyPair, which reads the file twice, and may do so on
		// both sides of a rename.
		text, err := os.ReadFile(r.spec.Layout.PKI(file))
		if err != nil {
			return nil, err
		}
		c, err := tls.X509KeyPair(text, text)
		return &c, err
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := tls.Server(a, &tls.Config{
		Time: r.clock.Now, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load(serverFile) },
	})
	c := tls.Client(b, &tls.Config{
		Time: r.clock.Now, RootCAs: roots, ServerName: name,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load(clientFile) },
	})
	answer := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // in TLS 1.3 the client learns by reading that it was refused
		}
		a.Close()
		answer <- err
	}()
	_, err = c.Read(make([]byte, 1))
	b.Close()
	return s.ConnectionState(), c.ConnectionState(), errors.Join(err, <-answer)
}

// The clock is set, or the machine was suspended: timers have seen no more than a
// minute.
func TestRenewSeesAMovedClock(t *testing.T) {
	for name, move := range map[string]time.Duration{
		"to the time of renewal": 280 * day,
		"after the end":          400 * day,
	} {
		t.Run(name, func(t *testing.T) {
			r := renew(t, testSpec(t))
			r.log.take()
			r.clock.move(move)
			r.minute()
			r.minute() // the check of the minute before is over
			if lines := r.log.take(); len(lines) != len(wantedLeaves)+1 {
				t.Errorf("log has %d lines, want all leaves and the admin's kubeconfig: %q", len(lines), lines)
			}
			verifyAll(t, r.spec, r.clock.Now())
			r.clock.move(-move + time.Hour) // and back
			r.minute()
			r.minute()
			if lines := r.log.take(); len(lines) != len(wantedLeaves)+1 || !strings.Contains(lines[0], "was not valid before") {
				t.Errorf("log has %d lines, want all leaves and the admin's kubeconfig: %q", len(lines), lines)
			}
			verifyAll(t, r.spec, r.clock.Now())
		})
	}
}

// A new address is in the certificates within a minute, and a file that was
// deleted is back within an hour, not at once.
func TestRenewFollowsTheSpec(t *testing.T) {
	r := renew(t, testSpec(t))
	r.log.take()
	r.set(func(s *Spec) { s.NodeIPs = ips("192.0.2.77") })
	r.minute()
	r.minute()
	if _, _, err := r.handshake(Admin, APIServer, ClusterCACert, "192.0.2.77"); err != nil {
		t.Error(err)
	}
	lines := r.log.take()
	if want := `level=INFO msg="pki file changed" file=apiserver.pem reason="was not good for 192.0.2.77" until=2027-05-01T10:02:00.000Z`; lines[0] != want {
		t.Errorf("log\n%s, want\n%s", lines[0], want)
	}

	path := r.spec.Layout.PKI(Scheduler)
	mustRemove(t, path)
	r.minute()
	r.minute()
	if _, err := os.Stat(path); err == nil {
		t.Error("files are read every minute")
	}
	r.pass(time.Hour)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// A problem is told once, tried again every minute, and its end is told.
func TestRenewTellsProblemsOnce(t *testing.T) {
	r := renew(t, testSpec(t))
	r.log.take()
	r.clock.move(-1000 * time.Hour)
	for range 10 {
		r.minute()
	}
	const want = `level=ERROR msg="certificates could not be kept in order" error="the clock says 2026-03-20T18:02:00Z, but the cluster CA is valid from 2026-05-01T09:00:00Z`
	if lines := r.log.take(); len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
		t.Errorf("log %q, want one line\n%s", lines, want)
	}
	r.pass(day)
	if lines := r.log.take(); len(lines) != 1 || !strings.HasPrefix(lines[0], "level=ERROR") {
		t.Errorf("log after a day %q, want the problem again", lines)
	}
	r.clock.move(1000 * time.Hour)
	r.minute()
	r.minute()
	if lines := r.log.take(); len(lines) != 1 || lines[0] != `level=INFO msg="certificates are in order again"` {
		t.Errorf("log %q, want that all is in order again", lines)
	}
}

func TestRenewWarnsOfTheEndOfACA(t *testing.T) {
	r := renew(t, testSpec(t))
	r.pass(3280 * day)
	for _, line := range r.log.take() {
		if strings.Contains(line, "WARN") {
			t.Errorf("log more than a year before the end: %s", line)
		}
	}
	r.pass(10 * day)
	var warnings []string
	for _, line := range r.log.take() {
		if strings.Contains(line, "WARN") {
			warnings = append(warnings, line)
		}
	}
	if len(warnings) != 3 || !strings.HasPrefix(warnings[0], `level=WARN msg="a CA ends, and every certificate with it" file=cluster-ca.crt until=2036-04-28T10:00:00.000Z remedy=`) {
		t.Errorf("warnings %q, want one for each CA", warnings)
	}
	r.pass(time.Hour)
	if lines := r.log.take(); strings.Contains(lines[0], "WARN") {
		t.Errorf("log an hour later: %q, want no warning", lines)
	}
}
