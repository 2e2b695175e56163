// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package plugin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/waggle-net/waggle/cni/server"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/internal/nl"
	"github.com/waggle-net/waggle/test/await"
	"github.com/waggle-net/waggle/test/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// datapath makes plain devices: what is tested is who calls whom with what.
type datapath struct{}

func (datapath) Add(_ context.Context, s *endpoint.Spec, ns *os.File) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.HostIfName
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: s.IfName, PeerNamespace: netlink.NsFd(int(ns.Fd()))})
}

func (datapath) Delete(_ context.Context, s *endpoint.Spec) error { return endpoint.DeleteDevice(s) }

func (datapath) Check(_ context.Context, s *endpoint.Spec, ns *os.File) error {
	return nl.WithNetNS(ns, func() error { _, err := netlink.LinkByName(s.IfName); return err })
}

// node is a daemon's CNI side in a folder of its own, with the real plugin.
type node struct {
	t   *testing.T
	dir string
	cni *libcni.CNIConfig
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir()}
	out, err := exec.Command("go", "build", "-o", filepath.Join(n.dir, "waggle-cni"), "../../cmd/waggle-cni").CombinedOutput()
	if err != nil {
		t.Fatalf("build the plugin: %v: %s", err, out)
	}
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{n.dir}, filepath.Join(n.dir, "cache"), nil)
	return n
}

func (n *node) socket() string { return filepath.Join(n.dir, "run", "cni.sock") }

// serve runs the daemon's side until the returned function is called.
func (n *node) serve() (stop func()) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.socket()), 0o700); err != nil {
		n.t.Fatal(err)
	}
	s, err := server.Open(server.Config{
		Socket:   n.socket(),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")},
		RestTime: -1,
		MTU:      func() int { return 1500 },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := s.Recover(n.t.Context(), datapath{}); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, datapath{}) }()
	// Recover holds the queue's lock until the socket listens: a DEL waits for it.
	await.Until(n.t, func() error { _, err := os.Stat(n.socket()); return err })
	return func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			n.t.Error(err)
		}
	}
}

func (n *node) network(version string, extra ...string) *libcni.NetworkConfigList {
	n.t.Helper()
	plugin := fmt.Sprintf(`"type": "waggle-cni", "socket": %q`, n.socket())
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil,
		`{"cniVersion": %q, "name": "waggle", "plugins": [{%s}]}`, version, strings.Join(append([]string{plugin}, extra...), ", ")))
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

func pod(t *testing.T, id string) *libcni.RuntimeConf {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	return &libcni.RuntimeConf{
		ContainerID: id, IfName: "eth0", NetNS: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns)),
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", id}},
	}
}

func code(err error) uint {
	if e, ok := errors.AsType[*types.Error](err); ok {
		return e.Code
	}
	return 0
}

// TestVerbs goes through the life of an attachment with the newest version.
func TestVerbs(t *testing.T) {
	n := newNode(t)
	defer n.serve()()
	network, p := n.network("1.1.0"), pod(t, "a")
	if err := n.cni.GetStatusNetworkList(t.Context(), network); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	added, err := n.cni.AddNetworkList(t.Context(), network, p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := types100.GetResult(added)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Interfaces) != 2 || r.Interfaces[1].Name != "eth0" || r.Interfaces[1].Sandbox != p.NetNS || len(r.IPs) != 2 || len(r.Routes) != 2 {
		t.Errorf("result is %+v", r)
	}
	for _, ip := range r.IPs {
		if ones, bits := ip.Address.Mask.Size(); ones != bits || ip.Interface == nil || *ip.Interface != 1 {
			t.Errorf("address %s of interface %v", ip.Address, ip.Interface)
		}
	}
	if err := n.cni.CheckNetworkList(t.Context(), network, p); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if _, err := n.cni.AddNetworkList(t.Context(), network, p); err == nil || !strings.Contains(err.Error(), "DEL") {
		t.Errorf("ADD again: %v", err)
	}
	// GC takes what is not named, and leaves the rest.
	other := pod(t, "b")
	if _, err := n.cni.AddNetworkList(t.Context(), network, other); err != nil {
		t.Fatal(err)
	}
	valid := []types.GCAttachment{{ContainerID: "b", IfName: "eth0"}}
	if err := n.cni.GCNetworkList(t.Context(), network, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		t.Errorf("GC: %v", err)
	}
	if err := n.cni.CheckNetworkList(t.Context(), network, other); err != nil {
		t.Errorf("CHECK of what was named: %v", err)
	}
	for range 2 { // idempotent
		for _, p := range []*libcni.RuntimeConf{p, other} {
			if err := n.cni.DelNetworkList(t.Context(), network, p); err != nil {
				t.Errorf("DEL: %v", err)
			}
		}
	}
}

// TestVersions: each version that VERSION names gets a result of its own form.
func TestVersions(t *testing.T) {
	n := newNode(t)
	defer n.serve()()
	info, err := n.cni.GetVersionInfo(t.Context(), "waggle-cni")
	if err != nil {
		t.Fatal(err)
	}
	supported := info.SupportedVersions()
	for _, want := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		if !slices.Contains(supported, want) {
			t.Errorf("VERSION lists %v, without %s", supported, want)
		}
	}
	for _, v := range supported {
		p := pod(t, "v"+v)
		result, err := n.cni.AddNetworkList(t.Context(), n.network(v), p)
		if err != nil {
			t.Errorf("%s: ADD: %v", v, err)
			continue
		}
		var form struct {
			CNIVersion string
			IPs        []struct{ Version, Address string }
		}
		b, err := json.Marshal(result)
		if err == nil {
			err = json.Unmarshal(b, &form)
		}
		if err != nil {
			t.Fatal(err)
		}
		old := strings.HasPrefix(v, "0.")
		if form.CNIVersion != v || len(form.IPs) != 2 || (form.IPs[0].Version == "4") != old {
			t.Errorf("%s: result is %s", v, b)
		}
		if err := n.cni.DelNetworkList(t.Context(), n.network(v), p); err != nil {
			t.Errorf("%s: DEL: %v", v, err)
		}
	}
}

// TestSideBySide: twenty ADDs at once.
func TestSideBySide(t *testing.T) {
	n := newNode(t)
	defer n.serve()()
	network := n.network("1.1.0")
	pods := make([]*libcni.RuntimeConf, 20)
	for i := range pods {
		pods[i] = pod(t, fmt.Sprintf("p%d", i))
	}
	var mu sync.Mutex
	seen := make(map[string]string)
	var wg sync.WaitGroup
	for _, p := range pods {
		wg.Go(func() {
			added, err := n.cni.AddNetworkList(t.Context(), network, p)
			if err != nil {
				t.Errorf("%s: %v", p.ContainerID, err)
				return
			}
			r, err := types100.GetResult(added)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, ip := range r.IPs {
				if holder, ok := seen[ip.Address.String()]; ok {
					t.Errorf("%s was given to %s and %s", ip.Address.String(), holder, p.ContainerID)
				}
				seen[ip.Address.String()] = p.ContainerID
			}
		})
	}
	wg.Wait()
	for _, p := range pods {
		if err := n.cni.DelNetworkList(t.Context(), network, p); err != nil {
			t.Error(err)
		}
	}
}

// TestDown: while no daemon runs, ADD says try again, DEL works and is made up
// for by the next daemon.
func TestDown(t *testing.T) {
	n := newNode(t)
	network, p := n.network("1.1.0"), pod(t, "a")
	stop := n.serve()
	if _, err := n.cni.AddNetworkList(t.Context(), network, p); err != nil {
		t.Fatal(err)
	}
	stop()
	late := pod(t, "late")
	if _, err := n.cni.AddNetworkList(t.Context(), network, late); code(err) != types.ErrTryAgainLater {
		t.Errorf("ADD: %v", err)
	}
	if err := n.cni.GetStatusNetworkList(t.Context(), network); code(err) != 50 {
		t.Errorf("STATUS: %v, want code 50", err)
	}
	if err := n.cni.CheckNetworkList(t.Context(), network, p); err == nil {
		t.Error("CHECK succeeds without a daemon")
	}
	for range 2 {
		if err := n.cni.DelNetworkList(t.Context(), network, p); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	links, err := nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "wag") {
			t.Errorf("device %s is left", l.Attrs().Name)
		}
	}
	defer n.serve()()
	if _, err := n.cni.AddNetworkList(t.Context(), network, p); err != nil {
		t.Errorf("ADD after the DEL that the daemon missed: %v", err)
	}
}

// TestBadInput: one clear message, naming what is wrong, with the code of the
// specification; and nothing is left.
func TestBadInput(t *testing.T) {
	n := newNode(t)
	defer n.serve()()
	for name, c := range map[string]struct {
		network *libcni.NetworkConfigList
		change  func(*libcni.RuntimeConf)
		code    uint
		want    string
	}{
		"unknown key":      {n.network("1.1.0", `"mtu": 1400`), nil, types.ErrUnsupportedField, "mtu"},
		"relative socket":  {n.network("1.1.0", `"socket": "cni.sock"`), nil, types.ErrInvalidNetworkConfig, "absolute"},
		"unknown version":  {n.network("9.9.9"), nil, types.ErrIncompatibleCNIVersion, "9.9.9"},
		"no namespace":     {n.network("1.1.0"), func(p *libcni.RuntimeConf) { p.NetNS = "/nonexistent" }, types.ErrInvalidNetNS, "/nonexistent"},
		"own namespace":    {n.network("1.1.0"), func(p *libcni.RuntimeConf) { p.NetNS = "/proc/self/ns/net" }, types.ErrInvalidNetNS, "not a pod's"},
		"long device name": {n.network("1.1.0"), func(p *libcni.RuntimeConf) { p.IfName = "a-name-that-is-too-long" }, types.ErrInvalidEnvironmentVariables, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(t, "bad")
			if c.change != nil {
				c.change(p)
			}
			_, err := n.cni.AddNetworkList(t.Context(), c.network, p)
			if code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v (code %d), want code %d and %q", err, code(err), c.code, c.want)
			}
		})
	}
}
