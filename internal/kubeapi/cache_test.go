// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"bytes"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func endpoints(texts ...string) (out []netip.AddrPort) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddrPort(t))
	}
	return out
}

func TestLearn(t *testing.T) {
	s := newSetup(t)
	c := s.client("https://kube.example", "https://[2001:DB8:0::1]:6443", "https://kube.example:443/")
	want := func(list ...string) {
		t.Helper()
		if diff := cmp.Diff(append([]string{"https://kube.example config", "https://[2001:db8:0::1]:6443 config"}, list...), urls(c)); diff != "" {
			t.Errorf("servers, -want +got:\n%s", diff)
		}
	}
	want()
	c.Learn(endpoints("[2001:db8::2]:6443", "192.0.2.2:6443", "[2001:db8::1]:6443", "[::ffff:192.0.2.2]:6443",
		"0.0.0.0:6443", "[::]:6443", "224.0.0.1:6443", "192.0.2.3:0"))
	two := []string{"https://192.0.2.2:6443 learned", "https://[2001:db8::2]:6443 learned"}
	want(two...)
	c.Learn(nil)
	c.Learn(endpoints("0.0.0.0:6443"))
	want(two...)

	text, err := os.ReadFile(s.cfg.CacheFile)
	const content = `{
  "servers": [
    "192.0.2.2:6443",
    "[2001:db8::1]:6443",
    "[2001:db8::2]:6443"
  ]
}
`
	if err != nil || string(text) != content {
		t.Errorf("the file is %q, %v, want %q", text, err, content)
	}
	before := stat(t, s.cfg.CacheFile)
	if mode := before.Mode(); mode != 0o600 {
		t.Errorf("the file's mode is %v, want 0600", mode)
	}
	c.Learn(endpoints("[2001:db8::2]:6443", "[2001:db8::1]:6443", "192.0.2.2:6443"))
	if !os.SameFile(before, stat(t, s.cfg.CacheFile)) {
		t.Error("the same list in another order was written anew")
	}
	c.Learn(endpoints("192.0.2.4:6443"))
	if os.SameFile(before, stat(t, s.cfg.CacheFile)) {
		t.Error("another list did not replace the file")
	}
	want("https://192.0.2.4:6443 learned")

	c = s.client("https://192.0.2.1:6443")
	if diff := cmp.Diff([]string{"https://192.0.2.1:6443 config", "https://192.0.2.4:6443 cached"}, urls(c)); diff != "" {
		t.Errorf("servers after a restart, -want +got:\n%s", diff)
	}
	c.Learn(endpoints("192.0.2.4:6443"))
	if diff := cmp.Diff([]string{"https://192.0.2.1:6443 config", "https://192.0.2.4:6443 learned"}, urls(c)); diff != "" {
		t.Errorf("servers learned again, -want +got:\n%s", diff)
	}
	entries, err := os.ReadDir(filepath.Dir(s.cfg.CacheFile))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v, want the one file", entries, err)
	}
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestServerInUseGoes moves on where the list of learned servers loses the one in
// use, and keeps to it where it stays.
func TestServerInUseGoes(t *testing.T) {
	s := newSetup(t)
	a, b, c3 := newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil), newHost(t, s.ca, "127.0.0.1", nil)
	c := s.client(a.url())
	a.stop()
	c.Learn([]netip.AddrPort{b.addr})
	wantFrom(t, c, b)
	c.Learn([]netip.AddrPort{b.addr, c3.addr})
	wantFrom(t, c, b)
	if first := c.Servers()[0]; first.URL != b.url() || !first.InUse || first.Err != nil {
		t.Errorf("in use is %+v, want %s", first, b.url())
	}
	a.start()
	c.Learn([]netip.AddrPort{c3.addr})
	wantFrom(t, c, a)
}

// TestBadCache is a file that an older or another program wrote, or a bad disk.
func TestBadCache(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"cut off":       `{"servers": ["192.0.2.1:64`,
		"other":         `{"servers": ["192.0.2.1:6443"], "cluster": "a"}`,
		"two":           `{"servers": ["192.0.2.1:6443"]} {}`,
		"no list":       `{}`,
		"null":          `null`,
		"name":          `{"servers": ["kube.example:6443"]}`,
		"no address":    `{"servers": [""]}`,
		"unspecified":   `{"servers": ["0.0.0.0:6443"]}`,
		"unsorted":      `{"servers": ["192.0.2.2:6443", "192.0.2.1:6443"]}`,
		"IPv4 in IPv6":  `{"servers": ["[::ffff:192.0.2.1]:6443"]}`,
		"a long thread": `{"servers": [` + string(bytes.Repeat([]byte(" "), 1<<20)) + `"192.0.2.1:6443"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			if err := os.MkdirAll(filepath.Dir(s.cfg.CacheFile), 0o700); err != nil {
				t.Fatal(err)
			}
			s.write("state/apiservers.json", []byte(text))
			c := s.client("https://192.0.2.9:6443")
			if diff := cmp.Diff([]string{"https://192.0.2.9:6443 config"}, urls(c)); diff != "" {
				t.Errorf("servers, -want +got:\n%s", diff)
			}
			if n := s.log.count("level=WARN"); n != 1 || s.log.count(s.cfg.CacheFile) != 1 {
				t.Errorf("the log has %d warnings, want one that names the file:\n%s", n, &s.log.text)
			}
			c.Learn(endpoints("192.0.2.1:6443"))
			if got, err := readCache(s.cfg.CacheFile); err != nil || !slices.Equal(got, endpoints("192.0.2.1:6443")) {
				t.Errorf("the file was not replaced: %v, %v", got, err)
			}
		})
	}
}

// TestUnwritableCache goes on, says so once, and writes when it can.
func TestUnwritableCache(t *testing.T) {
	s := newSetup(t)
	s.write("state", []byte("a file where the folder should be"))
	c := s.client("https://192.0.2.9:6443")
	c.Learn(endpoints("192.0.2.1:6443"))
	c.Learn(endpoints("192.0.2.2:6443"))
	if n := s.log.count("API servers are not remembered"); n != 1 {
		t.Errorf("logged %d times, want 1:\n%s", n, &s.log.text)
	}
	if diff := cmp.Diff([]string{"https://192.0.2.9:6443 config", "https://192.0.2.2:6443 learned"}, urls(c)); diff != "" {
		t.Errorf("servers, -want +got:\n%s", diff)
	}
	if err := os.Remove(s.path("state")); err != nil {
		t.Fatal(err)
	}
	c.Learn(endpoints("192.0.2.2:6443"))
	if got, err := readCache(s.cfg.CacheFile); err != nil || !slices.Equal(got, endpoints("192.0.2.2:6443")) {
		t.Errorf("the file holds %v, %v", got, err)
	}
}

func TestWithoutCache(t *testing.T) {
	s := newSetup(t)
	s.cfg.CacheFile = ""
	c := s.client()
	c.Learn(endpoints("192.0.2.1:6443"))
	if diff := cmp.Diff([]string{"https://198.51.100.1:6443 kubeconfig", "https://192.0.2.1:6443 learned"}, urls(c)); diff != "" {
		t.Errorf("servers, -want +got:\n%s", diff)
	}
	if text := s.log.text.String(); text != "" {
		t.Errorf("the log has:\n%s", text)
	}
}

func TestNormalizeBounds(t *testing.T) {
	var many []netip.AddrPort
	for port := range uint16(maxLearned + 10) {
		many = append(many, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port+1))
	}
	if n := len(normalize(many)); n != maxLearned {
		t.Errorf("%d servers are kept, want %d", n, maxLearned)
	}
}

// FuzzParseCache: what is accepted can be tried, and is written as it was read.
func FuzzParseCache(f *testing.F) {
	for _, text := range []string{
		`{"servers": ["192.0.2.1:6443", "[2001:db8::1]:6443"]}`, `{"servers": ["[::ffff:192.0.2.1]:1"]}`,
		`{"servers": ["[fe80::1%eth0]:6443"]}`, `{"servers": [""]}`, `{}`, `[]`, ``, `{"servers":["192.0.2.1:0"]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		servers, err := parseCache(text)
		if err != nil {
			return
		}
		if len(servers) == 0 || !slices.Equal(normalize(servers), servers) {
			t.Fatalf("accepted %v", servers)
		}
		again, err := formatCache(servers)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseCache(again); err != nil || !slices.Equal(got, servers) {
			t.Fatalf("wrote %s, read %v, %v, want %v", again, got, err, servers)
		}
	})
}
