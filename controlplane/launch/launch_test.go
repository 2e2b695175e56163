// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/waggle-net/waggle/controlplane/config"
)

func testConfig(t *testing.T) *config.Config {
	t.Helper()
	c := config.Default()
	c.NodeName, c.DataDir, c.RunDir = "node1", t.TempDir(), t.TempDir()
	c.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	return c
}

// Each port that is documented is looked at, where it is going to be taken.
func TestChecks(t *testing.T) {
	c := testConfig(t)
	s := &Server{Config: c, BinDir: "/opt/bin"}
	in := s.checks()
	addresses := map[uint16]int{}
	for _, p := range in.Ports {
		if p.Protocol == "tcp" {
			addresses[p.Number]++
		}
	}
	for _, p := range config.Ports(c) {
		want := 1
		if p.Scope == config.NodeAddresses {
			want = 2
		}
		if p.Protocol == "TCP" && addresses[uint16(p.Number)] != want {
			t.Errorf("port %d is looked at on %d addresses, want %d", p.Number, addresses[uint16(p.Number)], want)
		}
	}
	if !slices.Contains(in.Programs, "/opt/bin/waggle-kubernetes") || in.Running || len(in.CIDRs) != 4 {
		t.Errorf("%+v", in)
	}
	if !in.OwnDataplane || in.BPFRoot != "/sys/fs/bpf" {
		t.Errorf("the datapath is %v, its file system %q", in.OwnDataplane, in.BPFRoot)
	}
	// What a former supervisor left may have its ports.
	if err := os.MkdirAll(filepath.Dir(c.Layout().ProcessFile("node")), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Layout().ProcessFile("node"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !s.checks().Running {
		t.Error("a recorded process is not noticed")
	}
}

func TestThrifty(t *testing.T) {
	if got := thrifty([]string{"A=1"}); !slices.Equal(got, []string{"A=1", "GOGC=50"}) {
		t.Errorf("%v", got)
	}
	if got := thrifty([]string{"GOGC=200"}); !slices.Equal(got, []string{"GOGC=200"}) {
		t.Errorf("%v", got)
	}
}

func TestRegistries(t *testing.T) {
	c := testConfig(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ContainerRuntime.Registries = []config.Registry{
		{Host: config.AnyRegistry, Mirrors: []config.Mirror{{URL: "https://mirror.example.com"}}},
		{Host: "registry.example.com", Username: "me", PasswordFile: file},
	}
	all, err := registries(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || len(all[0].Mirrors) != 1 || all[1].Server.Password != "secret" || all[1].Server.Username != "me" {
		t.Errorf("%+v", all)
	}
	c.ContainerRuntime.Registries[1].PasswordFile = file + ".missing"
	if _, err := registries(c); err == nil {
		t.Error("a password that is not there was read")
	}
}

// Archives that are being written, and folders, are not imported.
func TestArchives(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.tar", "a.tar.gz", ".part"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := archives(dir)
	if err != nil || !slices.Equal(files, []string{filepath.Join(dir, "a.tar.gz"), filepath.Join(dir, "b.tar")}) {
		t.Errorf("%v %v", files, err)
	}
}
