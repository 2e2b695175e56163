// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/cni/ipam"
	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/cni/store"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

func isHangUp(err error) bool { return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) }

// wantError checks code and message, and that there is a remedy if asked for.
func wantError(t *testing.T, err *types.Error, code uint, msg, remedy string) {
	t.Helper()
	if err == nil || err.Code != code || !strings.Contains(err.Msg, msg) || !strings.Contains(err.Details, remedy) {
		t.Errorf("error %#v, want code %d with %q and the remedy %q", err, code, msg, remedy)
	}
}

func TestAddGivesTheWholeResult(t *testing.T) {
	n := start(t, config(t))
	got := n.mustAdd("c1")
	spec := n.Endpoints()[0]
	b, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(spec.PodMAC.String(), "POD", spec.HostMAC.String(), "HOST").Replace(string(b))
	const want = `{
 "cniVersion": "1.1.0",
 "interfaces": [
  {
   "mac": "HOST",
   "mtu": 1450,
   "name": "wagd72e032fedd9"
  },
  {
   "mac": "POD",
   "mtu": 1450,
   "name": "eth0",
   "sandbox": "/run/netns/c1"
  }
 ],
 "ips": [
  {
   "address": "10.0.0.2/32",
   "gateway": "169.254.1.1",
   "interface": 1
  },
  {
   "address": "2001:db8::2/128",
   "gateway": "fe80::1",
   "interface": 1
  }
 ],
 "routes": [
  {
   "dst": "0.0.0.0/0",
   "gw": "169.254.1.1"
  },
  {
   "dst": "::/0",
   "gw": "fe80::1"
  }
 ]
}`
	if d := cmp.Diff(want, text); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if m := spec.PodMAC; m[0]&3 != 2 || m.String() == spec.HostMAC.String() {
		t.Errorf("MAC %s and %s: want two, unicast and locally administered", m, spec.HostMAC)
	}
}

func TestTwentySideBySide(t *testing.T) {
	n := start(t, config(t))
	addresses := make([]string, 20)
	var wg sync.WaitGroup
	for i := range addresses {
		wg.Go(func() {
			r, err := n.ask(request(protocol.Add, fmt.Sprint("c", i)))
			if err != nil {
				t.Errorf("add %d: %v", i, err)
				return
			}
			addresses[i] = r.IPs[0].Address.String()
		})
	}
	wg.Wait()
	slices.Sort(addresses)
	if got := len(slices.Compact(addresses)); got != 20 {
		t.Errorf("%d addresses for 20 pods", got)
	}
	n.consistent()
	for i := range 20 {
		wg.Go(func() {
			if _, err := n.ask(request(protocol.Del, fmt.Sprint("c", i))); err != nil {
				t.Errorf("del %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	n.consistent()
	if left := n.dp.names(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAddTwiceAndDeleteTwice(t *testing.T) {
	n := start(t, config(t))
	n.mustAdd("c1")
	_, err := n.ask(request(protocol.Add, "c1"))
	wantError(t, err, protocol.CodeExists, "c1/eth0", "DEL")
	n.consistent()
	n.mustDel("c1")
	n.mustDel("c1")
	n.mustDel("never")
	n.consistent()
	n.mustAdd("c1")
}

func TestSmallPool(t *testing.T) {
	cfg := config(t)
	cfg.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}
	n := start(t, cfg)
	for i := range 5 {
		n.mustAdd(fmt.Sprint("c", i))
	}
	_, err := n.ask(request(protocol.Add, "c5"))
	wantError(t, err, protocol.CodeExhausted, "10.0.0.0/29: every address is in use", "larger pod CIDR")

	n.mustDel("c3")
	n.pass(10 * time.Second)
	n.mustDel("c1")
	_, err = n.ask(request(protocol.Add, "c5"))
	wantError(t, err, types.ErrTryAgainLater, "all 2 free addresses", "shorter rest time")
	wantError(t, err, types.ErrTryAgainLater, "free in 20s", "")

	n.pass(20 * time.Second)
	if got := n.mustAdd("c5").IPs[0].Address.IP.String(); got != "10.0.0.5" {
		t.Errorf("got %s, want 10.0.0.5, free longest", got)
	}
	n.consistent()
}

func TestOneFamilyExhaustedTakesNothingOfTheOther(t *testing.T) {
	cfg := config(t)
	cfg.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/126")}
	n := start(t, cfg)
	n.mustAdd("c1")
	n.mustAdd("c2")
	_, err := n.ask(request(protocol.Add, "c3"))
	wantError(t, err, protocol.CodeExhausted, "2001:db8::/126", "larger pod CIDR")
	n.consistent()
}

func TestEndpointNumbers(t *testing.T) {
	n := start(t, config(t))
	for _, id := range []string{"a", "b", "c"} {
		n.mustAdd(id)
	}
	n.mustDel("b")
	n.mustAdd("d")
	if r, _ := n.state.get(attachment("d")); r.Spec.ID != 2 {
		t.Errorf("number %d, want 2, the lowest free", r.Spec.ID)
	}
	n.state.mu.Lock()
	for i := range n.state.ids {
		n.state.ids[i] = true
	}
	n.state.mu.Unlock()
	_, err := n.ask(request(protocol.Add, "e"))
	wantError(t, err, protocol.CodeExhausted, "number", "maxPods")
}

func TestFailedAddLeavesNothing(t *testing.T) {
	n := open(t, config(t), &fakeDatapath{})
	n.dp.hook(&n.dp.onAdd, func(*endpoint.Spec) error { return errors.New("eth0 exists in the pod") })
	n.serve()
	_, err := n.ask(request(protocol.Add, "c1"))
	wantError(t, err, protocol.CodeDatapath, "eth0 exists in the pod", "log")
	n.consistent()
	if len(n.state.list()) != 0 {
		t.Error("record left")
	}
	n.dp.hook(&n.dp.onAdd, func(*endpoint.Spec) error { return types.NewError(types.ErrInvalidNetNS, "gone", "") })
	_, err = n.ask(request(protocol.Add, "c2"))
	wantError(t, err, types.ErrInvalidNetNS, "gone", "")
}

func TestFailedUndoIsTriedAgain(t *testing.T) {
	n := open(t, config(t), &fakeDatapath{})
	n.dp.hook(&n.dp.onAdd, func(*endpoint.Spec) error { return errors.New("no") })
	n.dp.hook(&n.dp.onDelete, func(*endpoint.Spec) error { return errors.New("still no") })
	n.serve()
	_, err := n.ask(request(protocol.Add, "c1"))
	wantError(t, err, protocol.CodeDatapath, "no", "")
	if len(n.state.list()) != 1 || len(n.Endpoints()) != 0 {
		t.Fatal("the address must stay taken while its endpoint may be there")
	}
	_, err = n.ask(request(protocol.Del, "c1"))
	wantError(t, err, protocol.CodeDatapath, "still no", "")
	n.dp.hook(&n.dp.onDelete, nil)
	if left, err := n.sweep(t.Context(), n.dp); err != nil || len(left) != 0 {
		t.Errorf("sweep: %v %v", left, err)
	}
	n.consistent()
}

func TestReadiness(t *testing.T) {
	cfg := config(t)
	var state atomic.Pointer[error]
	ready := func(err error) { state.Store(&err) }
	cfg.Ready = func() error { return *state.Load() }
	ready(nil)
	n := start(t, cfg)
	if _, err := n.ask(request(protocol.Status, "")); err != nil {
		t.Errorf("status: %v", err)
	}
	ready(errors.New("services have not synced"))
	_, err := n.ask(request(protocol.Status, ""))
	wantError(t, err, types.ErrPluginNotAvailable, "services have not synced", "log")
	_, err = n.ask(request(protocol.Add, "c1"))
	wantError(t, err, types.ErrTryAgainLater, "services have not synced", "log")
	n.mustDel("c1")
	// With a pod, the node stays ready: it would lose its services.
	ready(nil)
	n.mustAdd("c2")
	ready(errors.New("services have not synced"))
	if _, err := n.ask(request(protocol.Status, "")); err != nil {
		t.Errorf("status with a pod: %v", err)
	}
	_, err = n.ask(request(protocol.Add, "c3"))
	wantError(t, err, types.ErrTryAgainLater, "services have not synced", "log")
	ready(types.NewError(types.ErrLimitedConnectivity, "programs detached", ""))
	_, err = n.ask(request(protocol.Status, ""))
	wantError(t, err, types.ErrLimitedConnectivity, "programs detached", "")
}

func TestGC(t *testing.T) {
	n := start(t, config(t))
	for _, id := range []string{"keep", "drop1", "drop2", "stuck"} {
		n.mustAdd(id)
	}
	other := request(protocol.Add, "other")
	other.Network = "second"
	if _, err := n.ask(other); err != nil {
		t.Fatal(err)
	}
	n.dp.hook(&n.dp.onDelete, func(s *endpoint.Spec) error {
		if s.ContainerID == "stuck" {
			return errors.New("device is busy")
		}
		return nil
	})
	gc := &protocol.Request{Version: 1, Verb: protocol.GC, Network: "waggle", Valid: []protocol.Attachment{attachment("keep")}}
	_, err := n.ask(gc)
	wantError(t, err, protocol.CodeDatapath, "1 attachments are left: delete stuck/eth0: device is busy", "next GC")
	if d := cmp.Diff([]string{"keep", "other", "stuck"}, n.dp.names()); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	n.dp.hook(&n.dp.onDelete, nil)
	if _, err := n.ask(gc); err != nil {
		t.Errorf("second GC: %v", err)
	}
	n.consistent()
}

func TestCheck(t *testing.T) {
	n := start(t, config(t))
	prev := n.mustAdd("c1")
	check := func(change func(*types100.Result)) *types.Error {
		b, _ := json.Marshal(prev)
		r := &types100.Result{}
		if err := json.Unmarshal(b, r); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(r)
		}
		req := request(protocol.Check, "c1")
		req.PrevResult = r
		_, err := n.ask(req)
		return err
	}
	if err := check(nil); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	if err := check(func(r *types100.Result) {
		r.Interfaces = append(r.Interfaces, &types100.Interface{Name: "ifb0"})
	}); err != nil {
		t.Errorf("a chained plugin's interface: %v", err)
	}
	wantError(t, check(func(r *types100.Result) { r.IPs = r.IPs[1:] }), protocol.CodeMismatch, "address 10.0.0.2 is not in it", "DEL")
	wantError(t, check(func(r *types100.Result) { r.Interfaces[1].Mac = "02:00:00:00:00:01" }), protocol.CodeMismatch, "eth0 has the address 02:00:00:00:00:01", "DEL")
	wantError(t, check(func(r *types100.Result) { r.Interfaces[1].Name = "eth9" }), protocol.CodeMismatch, "interface eth0 is not in it", "DEL")

	n.dp.hook(&n.dp.onCheck, func(*endpoint.Spec) error { return errors.New("route ::/0 is missing") })
	wantError(t, check(nil), protocol.CodeMismatch, "route ::/0 is missing", "")
	_, err := n.ask(request(protocol.Check, "unknown"))
	wantError(t, err, types.ErrUnknownContainer, "no such attachment", "")
}

func TestChangedPodCIDR(t *testing.T) {
	cfg := config(t)
	cfg.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	n := start(t, cfg)
	n.mustAdd("old")
	n.stop()

	cfg.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/29")}
	n = open(t, cfg, n.dp).serve()
	if len(n.Endpoints()) != 1 || len(n.dp.names()) != 1 {
		t.Fatal("the old endpoint is gone")
	}
	for i := range 5 {
		if a := n.mustAdd(fmt.Sprint("c", i)).IPs[0].Address.String(); !strings.HasPrefix(a, "10.9.0.") {
			t.Errorf("address %s", a)
		}
	}
	n.mustDel("old")
	n.pass(time.Hour)
	_, err := n.ask(request(protocol.Add, "c9"))
	wantError(t, err, protocol.CodeExhausted, "10.9.0.0/29", "")
	n.stop()

	cfg.RestTime = -1 // rested, and outside: nothing to remember
	n = open(t, cfg, n.dp)
	if _, released, err := n.state.store.Load(); err != nil || len(released) != 0 {
		t.Errorf("released: %v %v", released, err)
	}
}

func TestSecondDaemon(t *testing.T) {
	cfg := config(t)
	start(t, cfg)
	if _, err := Open(cfg); !errors.Is(err, store.ErrInUse) {
		t.Errorf("same state: error %v, want in use", err)
	}
	cfg.RunDir = t.TempDir()
	n := open(t, cfg, &fakeDatapath{})
	if err := n.Recover(t.Context(), n.dp); err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(t.Context(), n.dp); !errors.Is(err, ErrRunning) {
		t.Errorf("same socket: error %v, want running", err)
	}
}

func TestSocketsInTheWay(t *testing.T) {
	cfg := config(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as a killed daemon does
	l.Close()
	n := start(t, cfg)
	info, err := os.Stat(cfg.Socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	n.stop()
	if _, err := os.Stat(cfg.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}

	if err := os.WriteFile(cfg.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg, &fakeDatapath{})
	if err := n.Serve(t.Context(), n.dp); !errors.Is(err, ErrNotRecovered) {
		t.Errorf("error %v, want not recovered", err)
	}
	if err := n.Recover(t.Context(), n.dp); err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(t.Context(), n.dp); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("error %v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"relative socket", func(c *Config) { c.Socket = "cni.sock" }, "absolute"},
		{"long socket", func(c *Config) { c.Socket = "/" + strings.Repeat("x", 120) }, "use a shorter one"},
		{"no MTU", func(c *Config) { c.MTU = nil }, "MTU"},
		{"no CIDR", func(c *Config) { c.PodCIDRs = nil }, "none given"},
		{"small CIDR", func(c *Config) { c.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/31")} }, "use /30 or larger"},
	} {
		cfg := config(t)
		tc.change(&cfg)
		_, err := Open(cfg)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		if entries, _ := os.ReadDir(filepath.Dir(cfg.Socket)); len(entries) != 0 && tc.name != "long socket" && tc.name != "relative socket" {
			t.Errorf("%s: left %v", tc.name, entries)
		}
	}
	if _, err := ipam.New(netip.Prefix{}, 0); err == nil {
		t.Error("zero prefix accepted")
	}
}
