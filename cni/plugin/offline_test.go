// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/waggle-net/waggle/cni/pending"
	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/cni/server"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/test/await"
)

// nothing is a datapath without a kernel.
type nothing struct{}

func (nothing) Add(context.Context, *endpoint.Spec, *os.File) error   { return nil }
func (nothing) Delete(context.Context, *endpoint.Spec) error          { return nil }
func (nothing) Check(context.Context, *endpoint.Spec, *os.File) error { return nil }

func socketIn(t *testing.T) string {
	// Not t.TempDir, whose path is too long for a socket.
	dir, err := os.MkdirTemp("", "waggle")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "cni.sock")
}

func args(socket, id string) *skel.CmdArgs {
	return &skel.CmdArgs{
		ContainerID: id, IfName: "eth0",
		StdinData: fmt.Appendf(nil, `{"cniVersion":"1.1.0","name":"waggle","type":"waggle-cni","socket":%q}`, socket),
	}
}

// serve runs a daemon and gives how to stop it.
func serve(t *testing.T, socket string) (stop func()) {
	t.Helper()
	s, err := server.Open(server.Config{
		Socket: socket, RestTime: -1, MTU: func() int { return 1500 },
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Recover(t.Context(), nothing{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, nothing{}) }()
	await.Until(t, func() error { _, err := os.Stat(socket); return err })
	return func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// endpoints gives what a daemon finds when it starts and has recovered.
func endpoints(t *testing.T, socket string) (ids []string) {
	t.Helper()
	s, err := server.Open(server.Config{
		Socket: socket, MTU: func() int { return 1500 },
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Recover(t.Context(), nothing{}); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Endpoints() {
		ids = append(ids, e.ContainerID)
	}
	return ids
}

func addAll(t *testing.T, socket string, ids []string) {
	t.Helper()
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	for _, id := range ids {
		_, err := call(socket, &protocol.Request{
			Version: 1, Verb: protocol.Add, Network: "waggle",
			Attachment: protocol.Attachment{ContainerID: id, IfName: "eth0"},
		}, netns)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeleteWhileTheDaemonComesAndGoes: whichever moment a DEL meets, it
// succeeds, and in the end no endpoint is left.
func TestDeleteWhileTheDaemonComesAndGoes(t *testing.T) {
	socket := socketIn(t)
	for round := range 10 {
		stop := serve(t, socket)
		var ids []string
		for i := range 40 {
			ids = append(ids, fmt.Sprintf("r%dc%d", round, i))
		}
		addAll(t, socket, ids)
		var wg sync.WaitGroup
		work := make(chan string)
		for range 4 {
			wg.Go(func() {
				for id := range work {
					for range 2 { // and again, for nothing
						if err := del(args(socket, id)); err != nil {
							t.Errorf("del %s: %v", id, err)
						}
					}
				}
			})
		}
		for i, id := range ids {
			if i%10 == 5 {
				stop()
				// The runtime does not wait for the daemon to be back.
				work <- id
				stop = serve(t, socket)
				continue
			}
			work <- id
		}
		close(work)
		wg.Wait()
		stop()
		if left := endpoints(t, socket); len(left) != 0 {
			t.Fatalf("round %d: left %v", round, left)
		}
	}
}

// A daemon that dies over a request has not done it: ADD comes again, DEL is
// written down.
func TestDaemonDiesOverARequest(t *testing.T) {
	socket := socketIn(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.CopyN(io.Discard, c, 10)
			c.Close()
		}
	}()
	a := args(socket, "c1")
	a.Netns, a.NetnsOverride = "/proc/self/ns/net", "1"
	wantError(t, add(a), types.ErrTryAgainLater, "waggled is not running")
	wantError(t, status(a), types.ErrPluginNotAvailable, "waggled is not running")
	a.Netns = ""
	if err := del(a); err != nil {
		t.Errorf("del: %v", err)
	}
	if ok, err := pending.For(socket).Has(protocol.Attachment{ContainerID: "c1", IfName: "eth0"}); !ok || err != nil {
		t.Errorf("written down: %v %v", ok, err)
	}
}

// Somebody else's daemon, or ours gone mad, is named as such.
func TestStrangeAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n": "is it waggled that listens there?",
		`{"version":"x"}`:              "is it waggled that listens there?",
		`{"version":1}`:                "without a result",
	} {
		socket := socketIn(t)
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, answer)
			io.Copy(io.Discard, c)
		}()
		a := args(socket, "c1")
		a.Netns, a.NetnsOverride = "/proc/self/ns/net", "1"
		wantError(t, add(a), types.ErrDecodingFailure, want)
		l.Close()
	}
}

func TestDownWithoutADirectory(t *testing.T) {
	socket := filepath.Join(socketIn(t)+".d", "cni.sock")
	defer os.RemoveAll(filepath.Dir(socket))
	a := args(socket, "c1")
	wantError(t, gc(&skel.CmdArgs{StdinData: fmt.Appendf(nil,
		`{"name":"waggle","socket":%q,"cni.dev/valid-attachments":[]}`, socket)}), types.ErrTryAgainLater, "not running")
	for range 2 {
		if err := del(a); err != nil {
			t.Errorf("del before the first start: %v", err)
		}
	}
	// A namespace that is gone, and a path that is no namespace any more.
	file := filepath.Join(filepath.Dir(socket), "netns")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a.Netns = range []string{"/nonexistent", file} {
		if err := del(a); err != nil {
			t.Errorf("del with namespace %s: %v", a.Netns, err)
		}
	}
}
