// SPDX-License-Identifier: Apache-2.0

package nameserver

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

func source(file, behind string) Source {
	services := netip.MustParsePrefix("10.96.0.0/12")
	return Source{ResolvConf: file, ResolvedConf: behind, Self: func(a netip.AddrPort) string {
		switch {
		case a == netip.MustParseAddrPort("192.0.2.1:5353"):
			return "this cluster DNS"
		case services.Contains(a.Addr()):
			return "an address of a service (10.96.0.0/12)"
		}
		return ""
	}}
}

func writeFile(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestResolvConf(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/resolvconf.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range archive.Files {
		files[f.Name] = string(f.Data)
	}
	for _, f := range archive.Files {
		if strings.Contains(f.Name, "/") {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			file, behind := writeFile(t, f.Data), "/nonexistent/resolv.conf"
			if text, ok := files[f.Name+"/behind"]; ok {
				behind = writeFile(t, []byte(text))
			}
			n, err := source(file, behind).Read()
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, a := range n.Addrs {
				fmt.Fprintln(&got, a)
			}
			for _, p := range n.Problems {
				fmt.Fprintln(&got, "problem:", strings.NewReplacer(file, "FILE", behind, "BEHIND").Replace(p))
			}
			if diff := cmp.Diff(files[f.Name+"/want"], got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	n, err := source("/nonexistent/resolv.conf", "/nonexistent/resolv.conf").Read()
	if err != nil || len(n.Addrs) != 0 || len(n.Problems) != 2 || !strings.Contains(n.Problems[0], "no such file") {
		t.Errorf("nameservers of no file: %v, %v, %v; want none, no error, and both problems", n.Addrs, n.Problems, err)
	}
}

func TestListed(t *testing.T) {
	for _, test := range []struct {
		listed []string
		want   []string
		err    string
	}{
		{listed: []string{"192.0.2.53", "2001:db8::53"}, want: []string{"192.0.2.53:53", "[2001:db8::53]:53"}},
		{listed: []string{"192.0.2.53:5353", "[fe80::1%eth0]:54", "192.0.2.53:5353"}, want: []string{"192.0.2.53:5353", "[fe80::1%eth0]:54"}},
		{listed: []string{"127.0.0.53"}, want: []string{"127.0.0.53:53"}}, // whoever lists it wants it
		{listed: []string{"dns.example.org"}, err: "write it as in 192.0.2.53"},
		{listed: []string{"192.0.2.53:0"}, err: "write its own address"},
		{listed: []string{"192.0.2.53", "::"}, err: "write its own address"},
		{listed: []string{"224.0.0.251:5353"}, err: "write its own address"},
		{listed: []string{"192.0.2.1:5353"}, err: "it is this cluster DNS"},
		{listed: []string{"10.96.0.10"}, err: "it is an address of a service"},
		{listed: strings.Fields(strings.Repeat("192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 ", 4) +
			"192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8 192.0.2.9 192.0.2.10 192.0.2.11 192.0.2.12 192.0.2.13 192.0.2.14 192.0.2.15 192.0.2.16"),
			err: "forward to 16 nameservers: at most 15"},
	} {
		s := source("/nonexistent/resolv.conf", "/nonexistent/resolv.conf")
		s.Listed = test.listed
		n, err := s.Read()
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%v: %v, want: %s", test.listed, err, test.err)
			}
			continue
		}
		if got := strings.Fields(strings.Trim(fmt.Sprint(n.Addrs), "[]")); err != nil || !slices.Equal(got, strings.Fields(strings.Trim(fmt.Sprint(test.want), "[]"))) {
			t.Errorf("%v: %v, %v, want %v", test.listed, n.Addrs, err, test.want)
		}
	}
}

// FuzzResolvConf: whatever the file says, what is forwarded to is something that can
// be asked and is not cluster DNS itself.
func FuzzResolvConf(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/resolvconf.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := source(writeFile(t, text), "/nonexistent/resolv.conf")
		n, err := s.Read()
		if err != nil {
			t.Fatal(err)
		}
		if len(n.Addrs) > most {
			t.Errorf("%d nameservers, want at most %d", len(n.Addrs), most)
		}
		for i, a := range n.Addrs {
			_, err := parse(a.String())
			if err != nil || s.Self(a) != "" || slices.Contains(n.Addrs[:i], a) {
				t.Errorf("nameserver %d is %s: itself %q, error %v, or listed twice in %v", i, a, s.Self(a), err, n.Addrs)
			}
		}
		if len(n.Addrs) == 0 && len(n.Problems) == 0 {
			t.Error("no nameserver, and nobody is told")
		}
	})
}
