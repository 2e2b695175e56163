// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseDepends(t *testing.T) {
	for modinfo, want := range map[string][]string{
		"": nil,
		"license=GPL\x00depends=\x00name=veth\x00":                           nil,
		"alias=x\x00depends=udp_tunnel,ip6_udp_tunnel\x00retpoline=Y\x00":    {"udp_tunnel", "ip6_udp_tunnel"},
		"description=no depends=here\x00depends=tls":                         {"tls"},
		"parm=depends:not this (charp)\x00depends=libcurve25519-generic\x00": {"libcurve25519-generic"},
	} {
		if got := parseDepends(modinfo); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", modinfo, got, want)
		}
	}
}

func TestParseBuiltin(t *testing.T) {
	got := parseBuiltin("kernel/drivers/net/netkit.ko\nkernel/crypto/crc32c-intel.ko\n\nmodules\n")
	if len(got) != 2 || !got["netkit"] || !got["crc32c_intel"] {
		t.Errorf("got %v", got)
	}
}

func TestResolve(t *testing.T) {
	// vxlan needs two modules, one of which needs another; a and b need each other.
	tree := fakeTree(t, map[string]string{
		"drivers/net/vxlan.ko":         "udp_tunnel,ip6_udp_tunnel",
		"net/ipv4/udp_tunnel.ko.xz":    "",
		"net/ipv6/ip6_udp_tunnel.ko":   "udp_tunnel,built-in",
		"net/sched/dash-ed.ko":         "",
		"a.ko":                         "b",
		"b.ko":                         "a",
		"broken.ko":                    "absent",
		"net/netfilter/not-a-module.o": "",
	})
	for _, tt := range []struct {
		wanted, want string
		err          string
	}{
		{wanted: "", want: ""},
		{wanted: "vxlan", want: "udp_tunnel ip6_udp_tunnel vxlan"},
		{wanted: "udp_tunnel vxlan udp_tunnel", want: "udp_tunnel ip6_udp_tunnel vxlan"},
		{wanted: "built_in built-in", want: ""},
		{wanted: "dash_ed dash-ed", want: "dash_ed"},
		{wanted: "?netkit ?dash-ed", want: "dash_ed"},
		{wanted: "a", want: "b a"},
		{wanted: "netkit", err: "find module netkit: not in this kernel"},
		{wanted: "?broken", err: "find module absent: not in this kernel (needed by broken)"},
	} {
		got, err := tree.resolve(t.Context(), strings.Fields(tt.wanted))
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: error %v, want %s", tt.wanted, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.wanted, err)
		}
		var names []string
		for _, m := range got {
			names = append(names, m.name)
		}
		if strings.Join(names, " ") != tt.want {
			t.Errorf("%s: got %s, want %s", tt.wanted, names, tt.want)
		}
	}
}

// fakeTree lays out a modules folder: file name to its "depends" entry.
func fakeTree(t *testing.T, files map[string]string) *moduleTree {
	t.Helper()
	dir := t.TempDir()
	for name := range files {
		path := filepath.Join(dir, "kernel", name)
		mkdirs(t, filepath.Dir(path))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	builtin := []byte("kernel/lib/built-in.ko\n")
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), builtin, 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := openModuleTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	tree.read = func(_ context.Context, path string) ([]byte, error) {
		name, _ := filepath.Rel(filepath.Join(dir, "kernel"), path)
		return moduleELF("license=GPL\x00depends=" + files[name] + "\x00"), nil
	}
	return tree
}

// moduleELF builds the smallest ELF file with a .modinfo section: header,
// names, modinfo, and three section headers.
func moduleELF(modinfo string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	le := binary.LittleEndian
	infoOff := uint64(64 + len(names))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	for _, v := range []any{
		uint16(1), uint16(62), uint32(1), // relocatable, x86-64
		uint64(0), uint64(0), infoOff + uint64(len(modinfo)), // section headers at the end
		uint32(0), uint16(64), uint16(0), uint16(0), uint16(64), uint16(3), uint16(2),
		[]byte(names), []byte(modinfo),
		make([]byte, 64),
		uint32(1), uint32(1), uint64(0), uint64(0), infoOff, uint64(len(modinfo)), uint32(0), uint32(0), uint64(1), uint64(0),
		uint32(10), uint32(3), uint64(0), uint64(0), uint64(64), uint64(len(names)), uint32(0), uint32(0), uint64(1), uint64(0),
	} {
		binary.Write(&b, le, v) // a Buffer never fails
	}
	return b.Bytes()
}
