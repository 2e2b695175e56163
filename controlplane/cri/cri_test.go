// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/grpc"
)

var update = flag.Bool("update", false, "write the expected output of the txtar files anew")

// TestCommands runs what the sections of the txtar files are named, each on a node of
// its own, and compares all that is printed.
func TestCommands(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("find testdata: %v, %d files", err, len(paths))
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range archive.Files {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar")+"/"+f.Name, func(t *testing.T) {
				n := newFilledNode(t)
				got := n.transcript(n.ctr(t, strings.Fields(f.Name)...))
				if *update {
					archive.Files[i].Data = []byte(got)
				} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// transcript is what a person and containerd see of a command.
func (n *node) transcript(r result) string {
	var b strings.Builder
	b.WriteString(r.stdout)
	for line := range strings.Lines(r.stderr) {
		b.WriteString("stderr: " + line)
	}
	for _, call := range n.calls() {
		b.WriteString("containerd: " + call + "\n")
	}
	if r.err != nil {
		for line := range strings.Lines(r.err.Error()) {
			b.WriteString("error: " + strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return strings.NewReplacer(n.layout.Run, "RUN", n.layout.Data, "DATA").Replace(b.String())
}

func TestUnreachable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, socket string, n *node)
		want    string
	}{
		{"absent", func(*testing.T, string, *node) {},
			"containerd does not answer at SOCKET: is the server running? start it with `waggle-kube server` or `systemctl start waggle-kube`"},
		{"left behind", func(t *testing.T, socket string, _ *node) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, "containerd does not answer at SOCKET: is the server running? start it with `waggle-kube server` or `systemctl start waggle-kube`"},
		{"without pods", func(t *testing.T, _ string, n *node) { serve(t, n.layout, grpc.NewServer()) },
			"ask containerd at SOCKET: containerd does not serve pods: unknown service runtime.v1.RuntimeService: it may be starting still; see DATA/log/containerd.log"},
		{"no socket", func(t *testing.T, socket string, _ *node) {
			if err := os.WriteFile(socket, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "containerd does not answer at SOCKET: is the server running? start it with `waggle-kube server` or `systemctl start waggle-kube`"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLayout(t)
			tt.prepare(t, l.ContainerdSocket(), &node{layout: l})
			for _, command := range []string{"pods", "images", "stop-all"} {
				r := run(t, l, command)
				got := strings.TrimPrefix(fmt.Sprint(r.err), "stop pods: ")
				got = strings.NewReplacer(l.ContainerdSocket(), "SOCKET", l.Data, "DATA").Replace(got)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s: -want +got:\n%s", command, diff)
				}
				if r.stdout != "" || r.stderr != "" {
					t.Errorf("%s printed %q and %q", command, r.stdout, r.stderr)
				}
			}
		})
	}
}

func TestPick(t *testing.T) {
	ids := []string{"abc", "abcd", "abde", "b1", "b2", "b3", "b4", "b5", "b6"}
	for want, expect := range map[string]string{
		"abc":   "abc", // the whole of one goes before the beginning of another
		"abcd":  "abcd",
		"abd":   "abde",
		"b6":    "b6",
		"":      "empty id of a pod: see `waggle-kube ctr pods`",
		"ab":    `id "ab" is ambiguous: 3 pods have ids that begin with it (abc, abcd, abde): give more of it`,
		"b":     `id "b" is ambiguous: 6 pods have ids that begin with it (b1, b2, b3, b4, b5, ...): give more of it`,
		"x":     "no pod has an id that is or begins with \"x\": see `waggle-kube ctr pods`",
		"abcde": "no pod has an id that is or begins with \"abcde\": see `waggle-kube ctr pods`",
		"ü":     "no pod has an id that is or begins with \"ü\": see `waggle-kube ctr pods`",
	} {
		got, err := pods.pick(want, ids)
		if err != nil {
			got = err.Error()
		}
		if got != expect {
			t.Errorf("%q: got %q, want %q", want, got, expect)
		}
	}
}
