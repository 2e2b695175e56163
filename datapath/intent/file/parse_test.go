// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/internal/config/strict"
)

var update = flag.Bool("update", false, "write the expected output of the txtar files anew")

// TestParse parses each file of each txtar but "want", which holds the text of
// what came out, or of the error.
func TestParse(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := render(Parse(ar.Files[0].Data))
			if *update {
				ar.Files[1].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(ar), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(ar.Files[1].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// render writes a line for each node, each frontend and each backend.
func render(nodes map[string]intent.Node, services map[intent.Name]intent.Service, err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		fmt.Fprintf(&b, "node %s %v pods %v\n", n.Name, n.Addresses, n.PodCIDRs)
	}
	for _, name := range slices.SortedFunc(maps.Keys(services), intent.Name.Compare) {
		s := services[name]
		fmt.Fprintf(&b, "service %s %v\n", s.Name, s.ClusterIPs)
		for _, p := range s.Ports {
			fmt.Fprintf(&b, "  port %q %d/%s\n", p.Name, p.Port, p.Protocol)
			for _, be := range p.Backends {
				fmt.Fprintf(&b, "    backend %s port %d ready %t\n", be.Address, be.Port, be.Ready)
			}
		}
	}
	return b.String()
}

func TestManyErrors(t *testing.T) {
	doc := "apiVersion: waggle.dev/v1alpha1\nkind: Intent\nnodes:\n" + strings.Repeat("- {name: n, addresses: [192.0.2.1]}\n", 100)
	_, _, err := Parse([]byte(doc))
	if err == nil || !strings.HasPrefix(err.Error(), "198 errors:") || !strings.HasSuffix(err.Error(), "... and 148 more") {
		t.Errorf("got %v", err)
	}
}

// write is the inverse of Parse.
func write(t *testing.T, nodes map[string]intent.Node, services map[intent.Name]intent.Service) []byte {
	type out struct {
		APIVersion string           `json:"apiVersion"`
		Kind       string           `json:"kind"`
		Nodes      []intent.Node    `json:"nodes"`
		Services   []intent.Service `json:"services"`
	}
	b, err := json.Marshal(out{APIVersion, Kind, slices.Collect(maps.Values(nodes)), slices.Collect(maps.Values(services))})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzParse holds: what is parsed without error is written as what parses the
// same, and has no address that the datapath must never see.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		nodes, services, err := Parse(data)
		if err != nil {
			if nodes != nil || services != nil {
				t.Fatal("an error and a result")
			}
			return
		}
		for _, s := range services {
			for _, a := range s.ClusterIPs {
				if err := strict.Address(nil, a); err != nil {
					t.Error(err)
				}
			}
		}
		text := write(t, nodes, services)
		nodes2, services2, err := Parse(text)
		if diff := cmp.Diff(render(nodes, services, nil), render(nodes2, services2, err)); diff != "" {
			t.Errorf("written as\n%s\nit reads differently:\n%s", text, diff)
		}
	})
}

// The example that people start from is valid.
func TestExample(t *testing.T) {
	b, err := os.ReadFile("../../../deploy/intent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	nodes, services, err := Parse(b)
	if err != nil || len(nodes) != 1 || len(services) != 1 {
		t.Errorf("%d nodes, %d services, %v", len(nodes), len(services), err)
	}
}
