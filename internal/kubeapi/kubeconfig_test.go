// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"flag"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the expected output of the txtar files anew")

// TestKubeconfigs makes a client from the kubeconfig of each txtar and the servers in
// its comment's last line, and compares the error, or else the servers, with "want".
// Beside the kubeconfig are ca.pem, client.pem, other.pem, empty and token.
func TestKubeconfigs(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { runKubeconfig(t, path) })
	}
}

func runKubeconfig(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newSetup(t)
	s.write("other.pem", newAuthority(t).client(t, "other"))
	s.write("token", []byte("secret\n"))
	s.write("empty", nil)
	if err := os.Remove(s.cfg.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	var want *txtar.File
	for i, f := range ar.Files {
		if f.Name == "want" {
			want = &ar.Files[i]
		} else {
			s.write(f.Name, f.Data)
		}
	}
	s.cfg.Servers = serversOf(ar)
	var got string
	if c, err := New(s.cfg); err != nil {
		got = strings.ReplaceAll(err.Error(), s.dir, "/etc/waggle") + "\n"
	} else {
		got = strings.Join(urls(c), "\n") + "\n"
	}
	if *update {
		want.Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(ar), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want.Data), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// serversOf is what follows "servers:" in the comment's last line.
func serversOf(ar *txtar.Archive) []string {
	lines := strings.Split(strings.TrimSpace(string(ar.Comment)), "\n")
	list, ok := strings.CutPrefix(lines[len(lines)-1], "servers:")
	if !ok {
		return nil
	}
	return strings.Fields(list)
}

func TestNoKubeconfig(t *testing.T) {
	_, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.HasPrefix(err.Error(), "kubernetes.kubeconfig: required") {
		t.Errorf("the error is %v", err)
	}
}

// FuzzParseServer: a request to what is accepted goes there by https, to a path below
// the server's; and what is shown of it means the same server.
func FuzzParseServer(f *testing.F) {
	for _, text := range []string{
		"https://192.0.2.1:6443", "https://[2001:db8::1]", "https://kube.example/k8s/a%2Fb/", "http://192.0.2.1", "192.0.2.1:6443",
		"https://user:password@kube.example", "https://kube.example?x", "https://:6443", "https:kube.example", "https://[fe80::1%25eth0]:6443",
		"https://kube.example:0", "https://kube.example:65536", "https://kube.example/a/../b//", "//kube.example", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseServer(text, FromConfig)
		if err != nil {
			return
		}
		again, err := parseServer(s.String(), FromConfig)
		if err != nil || again.key != s.key || again.String() != s.String() {
			t.Fatalf("%q is shown as %q, which is %+v, %v", text, s, again, err)
		}
		req := s.direct(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "kubernetes", Path: "/api"}})
		u, err := url.Parse(req.URL.String())
		if err != nil || u.Scheme != "https" || u.Host == "" || !strings.HasSuffix(u.Path, "/api") || u.RawQuery != "" || u.User != nil {
			t.Fatalf("%q makes the request %q, %v", text, req.URL, err)
		}
	})
}
