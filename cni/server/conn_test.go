// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/test/await"
)

func openFile(t testing.TB, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func TestBadMessages(t *testing.T) {
	n := start(t, config(t))
	add, err := protocol.EncodeRequest(request(protocol.Add, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	netns, null := openFile(t, "/proc/self/ns/net"), openFile(t, "/dev/null")
	mnt := openFile(t, "/proc/self/ns/mnt")
	for _, tc := range []struct {
		name string
		line string
		fds  []int
		code uint
		msg  string
	}{
		{"not JSON", "hello\n", nil, types.ErrDecodingFailure, "invalid character"},
		{"oversized", strings.Repeat("x", protocol.MaxMessage+1<<20), nil, types.ErrDecodingFailure, "more than the allowed"},
		{"no namespace", string(add), nil, types.ErrInvalidNetNS, "0 file descriptors"},
		{"two namespaces", string(add), []int{netns, netns}, types.ErrInvalidNetNS, "2 file descriptors"},
		{"many descriptors", string(add), []int{netns, netns, netns, netns, netns}, types.ErrDecodingFailure, "more than one"},
		{"a device", string(add), []int{null}, types.ErrInvalidNetNS, "not a network namespace"},
		{"a namespace of another kind", string(add), []int{mnt}, types.ErrInvalidNetNS, "not a network namespace"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := n.raw([]byte(tc.line), tc.fds...)
			if err != nil {
				if tc.name == "oversized" && isHangUp(err) {
					return // the answer is lost with what was not read
				}
				t.Fatal(err)
			}
			wantError(t, resp.Error, tc.code, tc.msg, "")
		})
	}
	n.consistent()
	n.mustAdd("c1")
	if fds := openFDs(t); fds > 40 {
		t.Errorf("%d file descriptors are open", fds)
	}
}

func openFDs(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRequestInPieces(t *testing.T) {
	n := start(t, config(t))
	line, err := protocol.EncodeRequest(request(protocol.Add, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	c := n.dial()
	if _, _, err := c.WriteMsgUnix(line[:1], unix.UnixRights(openFile(t, "/proc/self/ns/net")), nil); err != nil {
		t.Fatal(err)
	}
	for _, b := range line[1:] {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	var resp protocol.Response
	if err := json.NewDecoder(c).Decode(&resp); err != nil || resp.Error != nil || resp.Result == nil {
		t.Errorf("%+v %v", resp, err)
	}
}

func (n *node) dial() *net.UnixConn {
	n.t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: n.cfg.Socket, Net: "unix"})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// block makes the datapath's Add wait for release; entered says that it does.
func (d *fakeDatapath) block() (entered chan struct{}, release func()) {
	entered, gate := make(chan struct{}), make(chan struct{})
	d.hook(&d.onAdd, func(*endpoint.Spec) error {
		close(entered)
		<-gate
		return nil
	})
	return entered, sync.OnceFunc(func() { close(gate) })
}

func TestPluginHangsUpDuringAdd(t *testing.T) {
	n := open(t, config(t), &fakeDatapath{})
	entered, release := n.dp.block()
	defer release()
	n.serve()
	line, _ := protocol.EncodeRequest(request(protocol.Add, "c1"))
	c := n.dial()
	if _, _, err := c.WriteMsgUnix(line, unix.UnixRights(openFile(t, "/proc/self/ns/net")), nil); err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Close()
	// The runtime calls DEL while ADD is still at work: it waits its turn.
	deleted := make(chan struct{})
	go func() {
		defer close(deleted)
		n.mustDel("c1")
	}()
	select {
	case <-deleted:
		t.Fatal("DEL overtook ADD")
	case <-time.After(20 * time.Millisecond):
	}
	gc := &protocol.Request{Version: 1, Verb: protocol.GC, Network: "waggle"}
	if _, err := n.ask(gc); err != nil {
		t.Errorf("GC meanwhile: %v", err)
	}
	release()
	<-deleted
	n.consistent()
	if left := n.dp.names(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	n := open(t, config(t), &fakeDatapath{})
	entered, release := n.dp.block()
	defer release()
	if err := n.Recover(t.Context(), n.dp); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, n.dp) }()
	n.waitListening()

	added := make(chan struct{})
	go func() {
		defer close(added)
		n.mustAdd("c1")
	}()
	<-entered
	cancel()
	await.Until(t, func() error {
		if _, err := os.Stat(n.cfg.Socket); err == nil {
			return errors.New("the socket is there")
		}
		return nil
	})
	select {
	case <-served:
		t.Fatal("Serve ended before the request")
	default:
	}
	release()
	<-added
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	n.consistent()
}

// However a connection's bytes look, there is one answer with an error or a
// result in it, and the server lives.
func FuzzHandle(f *testing.F) {
	line, _ := protocol.EncodeRequest(request(protocol.Del, "c1"))
	f.Add(line)
	f.Add([]byte("\n"))
	f.Add([]byte(`{"version":1,"verb":"STATUS","network":"n"}` + "\n"))
	f.Add([]byte(`{"version":1,"verb":"GC","network":"n"}` + "\n"))
	dir, err := os.MkdirTemp("", "waggle")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	cfg := Config{Socket: dir + "/s", MTU: func() int { return 1500 }, PodCIDRs: fuzzCIDRs}
	s, err := Open(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		server, client := socketPair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.handle(t.Context(), &fakeDatapath{}, server)
		}()
		client.Write(data)
		client.CloseWrite()
		answer, err := io.ReadAll(client)
		<-done
		var resp protocol.Response
		if err != nil && !isHangUp(err) {
			t.Fatal(err)
		}
		if err == nil {
			if err := json.Unmarshal(answer, &resp); err != nil {
				t.Fatalf("answer %q: %v", answer, err)
			}
			if resp.Error != nil && (resp.Error.Code == 0 || resp.Error.Msg == "") {
				t.Fatalf("empty error %#v", resp.Error)
			}
		}
	})
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}
