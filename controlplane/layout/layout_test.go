// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/snapshot/pending"
)

// arguments are names that the methods with an argument are called with. A method
// that is not here takes none.
var arguments = map[string][]string{
	"PKI":         {"cluster-ca.crt", "apiserver.pem"},
	"Kubeconfig":  {"admin", "kubelet", "waggled"},
	"Generated":   {"config.json", "containerd.toml"},
	"Log":         {"node", "containerd"},
	"Socket":      {"supervisor", "control-plane", "node"},
	"ProcessFile": {"node", "containerd"},
}

// paths are all that a layout names, by the call that does.
func paths(t *testing.T, l layout.Layout) map[string]string {
	t.Helper()
	all := map[string]string{}
	v := reflect.ValueOf(l)
	for m, method := range v.Methods() {
		args := arguments[m.Name]
		if method.Type().NumIn() == 0 {
			args = []string{""}
		}
		if len(args) == 0 {
			t.Fatalf("%s takes an argument: add some to the table", m.Name)
		}
		for _, arg := range args {
			var in []reflect.Value
			if arg != "" {
				in = append(in, reflect.ValueOf(arg))
			}
			all[fmt.Sprintf("%s(%s)", m.Name, arg)] = method.Call(in)[0].String()
		}
	}
	return all
}

// TestPaths: no two things share a name, nothing is outside of the two folders, and
// what is below one of them is not told apart by the other's name.
func TestPaths(t *testing.T) {
	l := layout.Layout{Data: "/data", Run: "/run/node"}
	calls := map[string]string{}
	for call, path := range paths(t, l) {
		if other, taken := calls[path]; taken {
			t.Errorf("%s and %s are both %s", call, other, path)
		}
		calls[path] = call
		if !strings.HasPrefix(path, "/data/") && !strings.HasPrefix(path, "/run/node/") || path != filepath.Clean(path) {
			t.Errorf("%s is %s, want a path below the data or the run folder", call, path)
		}
	}
	got := map[string]string{}
	for _, path := range []string{
		l.VersionFile(), l.PKI("cluster-ca.crt"), l.Kubeconfig("admin"), l.Generated("containerd.toml"), l.Log("node"),
		l.ContainerdSocket(), l.Socket("node"), l.ProcessFile("node"),
	} {
		got[calls[path]] = path
	}
	// What backups and other people's scripts know.
	want := map[string]string{
		"VersionFile()":              "/data/version.json",
		"PKI(cluster-ca.crt)":        "/data/pki/cluster-ca.crt",
		"Kubeconfig(admin)":          "/data/kubeconfig/admin.yaml",
		"Generated(containerd.toml)": "/data/generated/containerd.toml",
		"Log(node)":                  "/data/log/node.log",
		"ContainerdSocket()":         "/run/node/containerd/containerd.sock",
		"Socket(node)":               "/run/node/node.sock",
		"ProcessFile(node)":          "/run/node/process/node.json",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// TestMaxRunDir: below the longest run folder all sockets can be bound, and below one
// of a byte more not all.
func TestMaxRunDir(t *testing.T) {
	const maxSocket = 107
	longest := func(length int) int {
		l := layout.Layout{Data: "/data", Run: "/" + strings.Repeat("r", length-1)}
		n := len(l.ContainerdSocket() + ".ttrpc") // containerd's second one
		for _, process := range arguments["Socket"] {
			n = max(n, len(l.Socket(process)))
		}
		return n
	}
	if n := longest(layout.MaxRunDir); n != maxSocket {
		t.Errorf("with a run folder of %d bytes, the longest socket has %d, want %d", layout.MaxRunDir, n, maxSocket)
	}
}

// Parts of the document: the sections of the two folders, and the first cells of rows.
var (
	heading = regexp.MustCompile("^(?:Data|Run): `([^`]*)`\n")
	row     = regexp.MustCompile("(?m)^\\| (`[^|]*) \\|")
	quoted  = regexp.MustCompile("`([^`]*)`")
)

// documented are the names that the page of files has in a folder's table.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/kube-files.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for section := range strings.SplitSeq(string(b), "\n## ") {
		folder := heading.FindStringSubmatch(section)
		if folder == nil {
			continue
		}
		for _, cell := range row.FindAllStringSubmatch(section, -1) {
			for _, name := range quoted.FindAllStringSubmatch(cell[1], -1) {
				names[folder[1]] = append(names[folder[1]], name[1])
			}
		}
	}
	return names
}

// TestDocument: the page of files has what is right in the data and the run folder,
// a folder with a slash at its end, and nothing else.
func TestDocument(t *testing.T) {
	l := layout.Layout{Data: layout.DefaultDataDir, Run: layout.DefaultRunDir}
	want := map[string][]string{
		// What is there for a while, by a restore.
		l.Data: {filepath.Base(pending.Dir(l)) + "/", "restore.new/", "before-restore-TIME/"},
		l.Run:  nil,
	}
	for call, path := range paths(t, l) {
		folder := l.Data
		if strings.HasPrefix(path, l.Run+"/") {
			folder = l.Run
		}
		name, rest, _ := strings.Cut(strings.TrimPrefix(path, folder+"/"), "/")
		method, _, _ := strings.Cut(call, "(")
		if rest != "" || strings.HasSuffix(method, "Dir") || strings.HasSuffix(method, "State") {
			name += "/"
		}
		want[folder] = append(want[folder], name)
	}
	got := documented(t)
	for _, names := range []map[string][]string{want, got} {
		for folder := range names {
			slices.Sort(names[folder])
		}
	}
	for folder := range want {
		want[folder] = slices.Compact(want[folder])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/kube-files.md (-want +got):\n%s", diff)
	}
}
