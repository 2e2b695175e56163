// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// start serves on a loopback address until the test ends.
func start(t *testing.T, p *Proxy) net.Addr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr()
}

// ask sends the head of a request and returns the answer's status and text.
func ask(t *testing.T, proxy net.Addr, head string) (int, string) {
	t.Helper()
	conn, err := net.Dial(proxy.Network(), proxy.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(head + "\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text strings.Builder
	if answer.StatusCode != http.StatusOK {
		if err := answer.Write(&text); err != nil {
			t.Fatal(err)
		}
	}
	return answer.StatusCode, text.String()
}

func TestRefuses(t *testing.T) {
	lab := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("198.18.0.0/24")}
	inside := start(t, &Proxy{Clients: lab})
	for _, row := range []struct {
		head   string
		status int
		text   string
	}{
		{"GET http://192.0.2.1/ HTTP/1.1", 405, "only CONNECT"},
		{"POST / HTTP/1.1", 405, "only CONNECT"},
		{"CONNECT 192.0.2.1:22 HTTP/1.1", 403, "only ports [443 80]"},
		{"CONNECT 192.0.2.1:65979 HTTP/1.1", 403, "only ports"}, // 443 after overflow
		{"CONNECT 127.0.0.1:443 HTTP/1.1", 403, "the machine itself"},
		{"CONNECT localhost:80 HTTP/1.1", 403, "the machine itself"},
		{"CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1", 403, "the machine itself"},
		{"CONNECT 0.0.0.0:443 HTTP/1.1", 403, "the machine itself"},
		{"CONNECT 198.18.0.11:443 HTTP/1.1", 403, "in the lab"},
		{"CONNECT 169.254.169.254:80 HTTP/1.1", 403, "link-local"},
	} {
		status, text := ask(t, inside, row.head)
		if status != row.status || !strings.Contains(text, row.text) {
			t.Errorf("%s: got %d, want %d with %q:\n%s", row.head, status, row.status, row.text, text)
		}
	}
	outside := start(t, &Proxy{Clients: lab[1:]})
	if status, _ := ask(t, outside, "CONNECT 192.0.2.1:443 HTTP/1.1"); status != 403 {
		t.Errorf("a client outside of the lab: got %d, want 403", status)
	}
	full := &Proxy{Clients: lab, MaxTunnels: 1}
	address := start(t, full)
	if status, _ := ask(t, address, "GET / HTTP/1.1"); status != 405 {
		t.Fatal(status) // served: what follows is set up
	}
	full.slots <- struct{}{}
	if status, text := ask(t, address, "CONNECT 127.0.0.1:443 HTTP/1.1"); status != 503 || !strings.Contains(text, "1 tunnels already") {
		t.Errorf("one tunnel too many: got %d:\n%s", status, text)
	}
}

func TestForbids(t *testing.T) {
	p := &Proxy{Clients: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}}
	for addr, forbidden := range map[string]bool{
		"192.0.2.1": false, "2001:db8:4321::1": false, "10.0.0.1": false, "::ffff:192.0.2.1": false,
		"127.9.9.9": true, "::1": true, "::": true, "0.0.0.0": true,
		"169.254.169.254": true, "fe80::1": true, "224.0.0.1": true, "ff02::1": true,
		"10.244.1.2": true, "::ffff:10.244.1.2": true, "fd00:10:244:1::2": true,
	} {
		if why := p.forbids(netip.MustParseAddr(addr)); (why != "") != forbidden {
			t.Errorf("%s: %q, want forbidden %v", addr, why, forbidden)
		}
	}
}
