// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/controlplane/layout"
)

func testOptions(kubelet string) *Options {
	return &Options{
		Layout: layout.Layout{Data: "/var/lib/waggle-kube", Run: "/run/waggle-kube"},
		Name:   "node1", Domain: "cluster.local",
		DNSAddrs:     []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")},
		CgroupDriver: "cgroupfs", ResolvConf: "/etc/resolv.conf", Kubelet: []byte(kubelet),
	}
}

// What a user sets is laid over what we choose, and what nobody sets is as Kubernetes
// has it.
func TestKubeletConfig(t *testing.T) {
	c, err := kubeletConfig(testOptions(`{"maxPods": 77, "evictionHard": {"memory.available": "1Gi"}, "memorySwap": {"swapBehavior": "LimitedSwap"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxPods != 77 || c.EvictionHard["memory.available"] != "1Gi" || c.MemorySwap.SwapBehavior != "LimitedSwap" {
		t.Errorf("what the user set: %d %v %v", c.MaxPods, c.EvictionHard, c.MemorySwap)
	}
	if c.FailSwapOn || c.FailCgroupV1 || c.Authentication.Anonymous.Enabled || c.ReadOnlyPort != 0 || len(c.ClusterDNS) != 2 {
		t.Errorf("what we choose: %+v", c)
	}
	if c.Port != 10250 || c.PodPidsLimit != -1 {
		t.Errorf("defaults of Kubernetes: %d %d", c.Port, c.PodPidsLimit)
	}
	if c, err = kubeletConfig(testOptions("")); err != nil || c.EvictionHard["nodefs.available"] != "10%" {
		t.Errorf("eviction by default: %v %v", c, err)
	}
}

func TestKubeletConfigRefuses(t *testing.T) {
	for name, test := range map[string]struct{ config, want string }{
		"unknown key":   {`{"maxPodz": 1}`, `unknown field "maxPodz"`},
		"type":          {`{"maxPods": "many"}`, "kubelet.config: "},
		"value":         {`{"maxPods": -1}`, "maxPods"},
		"feature gate":  {`{"featureGates": {"NoSuchGate": true}}`, "NoSuchGate"},
		"not an object": {`[]`, "kubelet.config: "},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := kubeletConfig(testOptions(test.config)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	o := testOptions("")
	o.Taints = []string{"a=b:Sometimes"}
	if _, err := kubeletConfig(o); err == nil || !strings.Contains(err.Error(), "kubelet.taints") {
		t.Errorf("a bad taint: %v", err)
	}
}

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	servers := write("real", "nameserver 192.0.2.53\n")
	stub := write("stub", "# by systemd\noptions edns0\nnameserver 127.0.0.53\n")
	stub6 := write("stub6", "nameserver ::1\n")
	missing := filepath.Join(dir, "missing")
	for _, test := range []struct{ system, resolved, want string }{
		{servers, servers, servers}, {stub, servers, servers}, {stub6, servers, servers},
		{stub, missing, stub}, // there is nothing better
		{missing, servers, ""},
	} {
		if got := resolvConf(test.system, test.resolved); got != test.want {
			t.Errorf("resolvConf(%s, %s) = %q, want %q", test.system, test.resolved, got, test.want)
		}
	}
}
