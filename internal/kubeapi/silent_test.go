// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"net"
	"net/netip"
	"sync"
	"testing"
)

// TestSilentServer is one that went without closing its connections, as a machine
// without power does.
func TestSilentServer(t *testing.T) {
	// Shorter than their defaults, 30 and 15.
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	s := newSetup(t)
	a, b := newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil)
	p := newProxy(t, a.addr)
	c := s.client("https://"+p.addr.String(), b.url())
	wantFrom(t, c, a)
	p.silence()
	wantFrom(t, c, b)
}

// proxy forwards connections to a server until it is silent.
type proxy struct {
	addr   netip.AddrPort
	mu     sync.Mutex
	silent bool
}

func newProxy(t *testing.T, to netip.AddrPort) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: netip.MustParseAddrPort(l.Addr().String())}
	var conns []net.Conn
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to.String())
			if err != nil {
				in.Close()
				return
			}
			p.mu.Lock()
			conns = append(conns, in, out)
			p.mu.Unlock()
			go p.copy(out, in)
			go p.copy(in, out)
		}
	}()
	return p
}

func (p *proxy) copy(to, from net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		silent := p.silent
		p.mu.Unlock()
		if !silent {
			to.Write(buf[:n])
		}
	}
}

func (p *proxy) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
}
