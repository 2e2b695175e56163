// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/layout"
)

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

func TestDerived(t *testing.T) {
	c := complete(t)
	c.NodeIPs = addrs("192.0.2.1", "2001:db8::1")
	c.APIServer.TLSSANs = []string{"api.example.com", "198.51.100.1", "n", "192.0.2.1"}
	for what, pair := range map[string][2]any{
		"Layout":               {c.Layout(), layout.Layout{Data: "/var/lib/waggle-kube", Run: "/run/waggle-kube"}},
		"Families":             {c.Families(), []Family{IPv4, IPv6}},
		"PrimaryFamily":        {c.PrimaryFamily(), IPv4},
		"KubernetesServiceIPs": {c.KubernetesServiceIPs(), addrs("10.96.0.1", "fd00:10:96::1")},
		"APIServerURL":         {c.APIServerURL(), "https://127.0.0.1:6443"},
		"APIServerNames":       {c.APIServerNames(), []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", "n", "api.example.com"}},
		"APIServerIPs":         {c.APIServerIPs(), addrs("127.0.0.1", "::1", "10.96.0.1", "fd00:10:96::1", "192.0.2.1", "2001:db8::1", "198.51.100.1")},
		"MaskSize":             {[]int{c.MaskSize(IPv4), c.MaskSize(IPv6)}, []int{24, 64}},
		"audit path":           {c.Audit.Path, "/var/lib/waggle-kube/log/audit.log"},
	} {
		if got, want := fmt.Sprint(pair[0]), fmt.Sprint(pair[1]); got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	c.PodCIDRs = DefaultPodCIDRs()[1:]
	if got, want := c.APIServerURL(), "https://[::1]:6443"; got != want {
		t.Errorf("with IPv6 only: %s, want %s", got, want)
	}
}

func TestReadPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("hunter2\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, r := range map[string]Registry{"": {}, "direct": {Password: "direct"}, "hunter2": {PasswordFile: path}} {
		if got, err := r.ReadPassword(); err != nil || got.Reveal() != want {
			t.Errorf("got %q, %v, want %q", got.Reveal(), err, want)
		}
	}
	r := Registry{Host: "docker.io", PasswordFile: path + "x"}
	if _, err := r.ReadPassword(); err == nil || err.Error() != "read password of registry docker.io: open "+path+"x: no such file or directory" {
		t.Errorf("got error %v", err)
	}
}

func TestPorts(t *testing.T) {
	c := complete(t)
	seen := map[string]bool{}
	for _, p := range Ports(c) {
		if seen[p.String()] || p.Use == "" || p.Scope == "" {
			t.Errorf("%+v is twice there, or says not all", p)
		}
		seen[p.String()] = true
	}
	if len(seen) != 11 {
		t.Errorf("%d ports", len(seen))
	}
}

func TestUseNodeIPs(t *testing.T) {
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, s := range texts {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for name, row := range map[string]struct {
		pods, services []netip.Prefix
		set, detected  []netip.Addr
		want           string // nodeIPs podCIDRs serviceCIDRs dns.addresses, or an error
	}{
		"dual stack":      {nil, nil, nil, addrs("192.0.2.1", "2001:db8::1"), "[192.0.2.1 2001:db8::1] [10.244.0.0/16 fd00:10:244::/56] [10.96.0.0/16 fd00:10:96::/112] [10.96.0.10 fd00:10:96::a]"},
		"IPv4 only":       {nil, nil, nil, addrs("192.0.2.1"), "[192.0.2.1] [10.244.0.0/16] [10.96.0.0/16] [10.96.0.10]"},
		"IPv6 only":       {nil, nil, nil, addrs("2001:db8::1"), "[2001:db8::1] [fd00:10:244::/56] [fd00:10:96::/112] [fd00:10:96::a]"},
		"they are set":    {nil, nil, addrs("192.0.2.9"), addrs("192.0.2.1", "2001:db8::1"), "[192.0.2.9] [10.244.0.0/16] [10.96.0.0/16] [10.96.0.10]"},
		"order of pods":   {prefixes("fd00:1::/56", "10.1.0.0/16"), nil, nil, addrs("192.0.2.1", "2001:db8::1"), "[2001:db8::1 192.0.2.1] [fd00:1::/56 10.1.0.0/16] [fd00:10:96::/112 10.96.0.0/16] [fd00:10:96::a 10.96.0.10]"},
		"one is enough":   {prefixes("10.1.0.0/16"), nil, nil, addrs("192.0.2.1", "2001:db8::1"), "[192.0.2.1] [10.1.0.0/16] [10.96.0.0/16] [10.96.0.10]"},
		"asked for":       {prefixes("10.1.0.0/16", "fd00:1::/56"), nil, nil, addrs("192.0.2.1"), "find this node's addresses: no IPv6 address for podCIDRs [10.1.0.0/16 fd00:1::/56]: give the machine one, set nodeIPs, or remove the IPv6 ranges from podCIDRs and serviceCIDRs"},
		"services too":    {nil, prefixes("10.2.0.0/16", "fd00:2::/112"), nil, addrs("192.0.2.1"), "find this node's addresses: no IPv6 address for podCIDRs [10.244.0.0/16 fd00:10:244::/56]: give the machine one, set nodeIPs, or remove the IPv6 ranges from podCIDRs and serviceCIDRs"},
		"none is left":    {prefixes("10.1.0.0/16"), nil, nil, addrs("2001:db8::1"), "find this node's addresses: no IPv4 address for podCIDRs [10.1.0.0/16]: give the machine one, set nodeIPs, or remove the IPv4 ranges from podCIDRs and serviceCIDRs"},
		"none":            {nil, nil, nil, nil, "find this node's addresses: none that other nodes reach: connect it to a network, or set nodeIPs"},
		"inside of pods'": {nil, nil, nil, addrs("10.244.7.7"), `use this node's addresses: nodeIPs[0]: Invalid value: "10.244.7.7": inside podCIDRs' 10.244.0.0/16: set podCIDRs to a range that the network around does not use`},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			c.PodCIDRs, c.ServiceCIDRs, c.NodeIPs = row.pods, row.services, row.set
			c.complete(func() (string, error) { return "n", nil })
			got := ""
			if err := c.UseNodeIPs(row.detected); err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprint(c.NodeIPs, c.PodCIDRs, c.ServiceCIDRs, c.DNS.Addresses)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNodeAddrsChoice(t *testing.T) {
	devices := []device{
		{"docker0", addrs("172.17.0.1", "fd00:d::1")},
		{"eth0", addrs("fe80::1", "192.0.2.1", "2001:db8::1")},
		{"eth1", addrs("198.51.100.1")},
	}
	none := netip.Addr{}
	for name, row := range map[string]struct {
		devices []device
		v4, v6  netip.Addr
		want    []netip.Addr
	}{
		"two default routes":  {devices, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), addrs("192.0.2.1", "2001:db8::1")},
		"same device":         {devices, netip.MustParseAddr("192.0.2.1"), none, addrs("192.0.2.1", "2001:db8::1")},
		"the device has none": {devices, netip.MustParseAddr("198.51.100.1"), none, addrs("198.51.100.1")},
		"no default route":    {devices, none, none, addrs("172.17.0.1", "fd00:d::1")},
		"link-local source":   {devices[1:], none, netip.MustParseAddr("fe80::1"), addrs("192.0.2.1", "2001:db8::1")},
		"nothing":             {nil, none, none, nil},
		"nothing global":      {[]device{{"eth0", addrs("fe80::1", "169.254.0.1")}}, none, none, nil},
	} {
		if diff := cmp.Diff(row.want, nodeAddrs(row.devices, row.v4, row.v6), compare); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
