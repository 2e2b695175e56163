// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/lab/proxy"
	"github.com/waggle-net/waggle/test/sandbox"
)

// The tests' network namespace is the machine: it has a link to the lab, and one to
// the "internet", another namespace.
func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// internet has a server on port 443 that repeats what it is told, once it has heard
// all of it, and returns the server's addresses.
func internet(t *testing.T) []netip.Addr {
	t.Helper()
	far := lab.ForTest(t, lab.Topology{Name: "tfar"}).Host("node1")
	// The kernel takes the device of the test before apart some time later.
	script := fmt.Sprintf(`set -e
		ip link del out 2>/dev/null || true
		ip link add out type veth peer name out netns %[1]s
		ip addr add 203.0.113.1/24 dev out; ip addr add 2001:db8:1234::1/64 dev out nodad; ip link set out up
		ip -n %[1]s addr add 203.0.113.2/24 dev out; ip -n %[1]s addr add 2001:db8:1234::2/64 dev out nodad; ip -n %[1]s link set out up`,
		"tfar-node1")
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var listener net.Listener
	err := far.DoNet(func() (err error) {
		listener, err = net.Listen("tcp", ":443")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				heard, err := io.ReadAll(conn)
				if err == nil {
					_, _ = conn.Write(heard) // the client sees it
				}
			}()
		}
	}()
	return []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("2001:db8:1234::2")}
}

func TestTunnel(t *testing.T) {
	servers := internet(t)
	l := lab.ForTest(t, lab.Topology{Name: "tproxy", Machine: true})
	node := l.Host("node1")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	var listeners []net.Listener
	for _, a := range l.MachineAddrs() {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(a, proxy.Port).String())
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, listener)
	}
	p := &proxy.Proxy{Clients: l.Prefixes()}
	go func() { served <- p.Serve(ctx, listeners...) }()

	// A refusal comes with its reason.
	connect := func(via, to netip.Addr) (conn net.Conn, reader *bufio.Reader, status int, reason string) {
		t.Helper()
		err := node.DoNet(func() (err error) {
			conn, err = net.Dial("tcp", netip.AddrPortFrom(via, proxy.Port).String())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		target := netip.AddrPortFrom(to, 443)
		// What follows at once belongs to the tunnel.
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nearly ", target, target)
		reader = bufio.NewReader(conn)
		answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // what there is
			reason = string(text)
			answer.Body.Close()
		}
		return conn, reader, answer.StatusCode, reason
	}

	// Without the proxy, there is no way.
	if out, err := node.Run(t.Context(), "ping", "-c1", "-W1", servers[0].String()); err == nil {
		t.Errorf("the lab reaches the internet by itself:\n%s", out)
	}
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, via := range l.MachineAddrs() {
		for _, to := range servers {
			conn, reader, status, reason := connect(via, to)
			if status != http.StatusOK {
				t.Errorf("%s by %s: %d %s", to, via, status, reason)
				continue
			}
			if _, err := conn.Write(much); err != nil {
				t.Error(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(reader)
			if want := append([]byte("early "), much...); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s by %s: got %d bytes, want %d (%v)", to, via, len(got), len(want), err)
			}
			conn.Close()
		}
	}
	// The machine's own address is none of the lab's business, whatever listens there.
	own, err := net.Listen("tcp", "203.0.113.1:443")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	conn, _, status, reason := connect(l.MachineAddrs()[0], netip.MustParseAddr("203.0.113.1"))
	if status != http.StatusForbidden || !strings.Contains(reason, "the machine itself") {
		t.Errorf("the machine's own address: %d %s", status, reason)
	}
	conn.Close()
	// Nobody but the lab gets in.
	outside, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1)}, &net.TCPAddr{IP: l.MachineAddrs()[0].AsSlice(), Port: proxy.Port})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	fmt.Fprint(outside, "CONNECT 203.0.113.2:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer, err := http.ReadResponse(bufio.NewReader(outside), nil); err != nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("a client outside of the lab: %v %v", answer, err)
	} else {
		answer.Body.Close()
	}

	// A tunnel ends with the proxy.
	open, reader, status, reason := connect(l.MachineAddrs()[1], servers[1])
	defer open.Close()
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, reason)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := open.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("the tunnel is still there: %v", err)
	}
}

// TestIdle: a tunnel through which nothing goes is ended.
func TestIdle(t *testing.T) {
	server := internet(t)[0]
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	p := &proxy.Proxy{Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, IdleTimeout: 100 * time.Millisecond}
	go func() { served <- p.Serve(ctx, listener) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", netip.AddrPortFrom(server, 443))
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 200 ") {
		t.Errorf("got %q, want an answer and then the end (%v)", all, err)
	}
}
