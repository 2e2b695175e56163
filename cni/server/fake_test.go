// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/test/await"
)

// fakeDatapath remembers what is built and refuses to build anything twice.
type fakeDatapath struct {
	mu                       sync.Mutex
	onAdd, onDelete, onCheck func(*endpoint.Spec) error
	built                    map[string]endpoint.Spec // by host interface
}

func (d *fakeDatapath) Add(ctx context.Context, s *endpoint.Spec, netns *os.File) error {
	if err := d.run(&d.onAdd, s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.built {
		both := slices.ContainsFunc(o.Addresses, func(a netip.Addr) bool { return slices.Contains(s.Addresses, a) })
		if both || o.ID == s.ID || o.HostIfName == s.HostIfName {
			return fmt.Errorf("%+v and %+v share something", o, *s)
		}
	}
	if d.built == nil {
		d.built = map[string]endpoint.Spec{}
	}
	d.built[s.HostIfName] = *s
	return ctx.Err()
}

func (d *fakeDatapath) Delete(ctx context.Context, s *endpoint.Spec) error {
	if err := d.run(&d.onDelete, s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.built, s.HostIfName)
	return nil
}

func (d *fakeDatapath) Check(ctx context.Context, s *endpoint.Spec, netns *os.File) error {
	return d.run(&d.onCheck, s)
}

// hook sets one of the hooks while the server runs.
func (d *fakeDatapath) hook(h *func(*endpoint.Spec) error, fn func(*endpoint.Spec) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*h = fn
}

func (d *fakeDatapath) run(h *func(*endpoint.Spec) error, s *endpoint.Spec) error {
	d.mu.Lock()
	fn := *h
	d.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(s)
}

func (d *fakeDatapath) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, s := range d.built {
		out = append(out, s.ContainerID)
	}
	slices.Sort(out)
	return out
}

// node is one daemon's CNI server with what belongs to it.
type node struct {
	*Server
	t    *testing.T
	dp   *fakeDatapath
	late atomic.Int64 // how far the released addresses' clock is ahead
	stop func()
}

// config is for a small dual-stack node in a directory of its own.
func config(t *testing.T) Config {
	// Not t.TempDir: with the test's name in it, the path is too long for a socket.
	dir, err := os.MkdirTemp("", "waggle")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{
		Socket:   filepath.Join(dir, "cni.sock"),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("10.0.0.0/24")},
		MTU:      func() int { return 1450 },
		Logger:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// open opens a server that is not yet serving.
func open(t *testing.T, cfg Config, dp *fakeDatapath) *node {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Server: s, t: t, dp: dp}
	began := sinceBoot()
	s.state.now = func() time.Duration { return began + time.Duration(n.late.Load()) }
	n.stop = sync.OnceFunc(func() { s.Close() })
	t.Cleanup(func() { n.stop() })
	return n
}

// pass lets time pass, which otherwise stands still.
func (n *node) pass(d time.Duration) { n.late.Add(int64(d)) }

// serve recovers and serves until stop or the test's end.
func (n *node) serve() *node {
	n.t.Helper()
	if err := n.Recover(n.t.Context(), n.dp); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Serve(ctx, n.dp) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("serve: %v", err)
		}
		n.Close()
	})
	n.waitListening()
	return n
}

func (n *node) waitListening() {
	n.t.Helper()
	await.Until(n.t, func() error {
		c, err := net.Dial("unix", n.cfg.Socket)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func start(t *testing.T, cfg Config) *node {
	t.Helper()
	return open(t, cfg, &fakeDatapath{}).serve()
}

func attachment(id string) protocol.Attachment {
	return protocol.Attachment{ContainerID: id, IfName: "eth0"}
}

func request(verb protocol.Verb, id string) *protocol.Request {
	return &protocol.Request{Version: 1, Verb: verb, Network: "waggle", Attachment: attachment(id), NetNS: "/run/netns/" + id}
}

// ask sends a request as the plugin does, with this process's own namespace.
func (n *node) ask(req *protocol.Request) (*types100.Result, *types.Error) {
	n.t.Helper()
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		n.t.Fatal(err)
	}
	defer netns.Close()
	line, err := protocol.EncodeRequest(req)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := n.raw(line, int(netns.Fd()))
	if err != nil {
		n.t.Errorf("%s %s: %v", req.Verb, req.Key(), err)
		return nil, types.NewError(0, err.Error(), "")
	}
	return resp.Result, resp.Error
}

func (n *node) raw(line []byte, fds ...int) (*protocol.Response, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: n.cfg.Socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	k, _, err := c.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
	if err == nil && k < len(line) {
		_, err = c.Write(line[k:])
	}
	if err != nil && !isHangUp(err) { // refused early: the answer is there all the same
		return nil, err
	}
	var resp protocol.Response
	return &resp, json.NewDecoder(c).Decode(&resp)
}

func (n *node) mustAdd(id string) *types100.Result {
	n.t.Helper()
	r, err := n.ask(request(protocol.Add, id))
	if err != nil {
		n.t.Fatalf("add %s: %v", id, err)
	}
	return r
}

func (n *node) mustDel(id string) {
	n.t.Helper()
	if _, err := n.ask(request(protocol.Del, id)); err != nil {
		n.t.Fatalf("del %s: %v", id, err)
	}
}

// consistent checks that memory, store and datapath say the same.
func (n *node) consistent() {
	n.t.Helper()
	records, released, err := n.state.store.Load()
	if err != nil {
		n.t.Fatal(err)
	}
	n.dp.mu.Lock()
	defer n.dp.mu.Unlock()
	n.state.mu.Lock()
	defer n.state.mu.Unlock()
	if len(records) != len(n.dp.built) || len(records) != len(n.state.records) {
		n.t.Errorf("%d records, %d in memory, %d built", len(records), len(n.state.records), len(n.dp.built))
	}
	for _, r := range records {
		if _, ok := n.dp.built[r.Spec.HostIfName]; !ok {
			n.t.Errorf("%s is recorded and not built", r.Attachment().Key())
		}
	}
	free := 0
	for _, p := range n.state.pools {
		free += p.Free()
		if p.Used() != len(records) {
			n.t.Errorf("%s: %d in use, %d records", p.Prefix(), p.Used(), len(records))
		}
	}
	if free != len(released) {
		n.t.Errorf("%d addresses rest in memory, %d in the store", free, len(released))
	}
}

// crash is what kill -9 leaves at this moment, under a server of its own: the
// files as they are, and the kernel's part as it is.
func (n *node) crash() *node {
	n.t.Helper()
	cfg := config(n.t)
	b, err := os.ReadFile(n.state.store.Path())
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(cfg.Socket), "endpoints.db"), b, 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.dp.mu.Lock()
	defer n.dp.mu.Unlock()
	return open(n.t, cfg, &fakeDatapath{built: maps.Clone(n.dp.built)})
}
