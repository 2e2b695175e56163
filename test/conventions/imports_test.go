// SPDX-License-Identifier: Apache-2.0

package conventions

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A program that is small because of what it does not link. Patterns end in
// /... for a tree of packages.
var programs = []struct {
	program string
	never   string
	why     string
}{
	{"cmd/waggled", "k8s.io/kubernetes/...", "the daemon also serves clusters that others run: it talks to the API with client-go"},
	{"cmd/waggle", "k8s.io/kubernetes/...", "the command line is a client: it talks to the API with client-go"},
	{"cmd/waggle-kube", "k8s.io/kubernetes/...", "the supervisor costs little memory: waggle-kubernetes, which it runs, embeds Kubernetes"},
	{"cmd/waggle-kube", "k8s.io/client-go/...", "the supervisor costs little memory: it asks its children over Unix sockets"},
	{"cmd/waggle-kube", "google.golang.org/grpc/...", "the supervisor costs little memory: runtime.Ready speaks to containerd without it"},
	{"cmd/waggle-kube", "go.etcd.io/...", "the supervisor costs little memory: snapshots are saved by waggle-kubernetes"},
	{"cmd/waggle-cni", "k8s.io/...", "the plugin starts for every pod, in milliseconds: it asks the daemon, which knows the cluster"},
	{"cmd/waggle-cni", "github.com/cilium/ebpf/...", "the plugin only carries the request: the daemon loads and attaches programs"},
	{"cmd/waggle-cni", "net/http", "the plugin speaks a line of JSON over a Unix socket: net/http doubles its size and start time"},
}

func TestProgramsStaySmall(t *testing.T) {
	graph := importGraph(t)
	for _, rule := range programs {
		start := module + "/" + rule.program
		if graph[start] == nil {
			t.Errorf("%s does not exist: was it renamed?", rule.program)
			continue
		}
		if chain := findImport(graph, start, rule.never); chain != nil {
			t.Errorf("%s must not depend on %s: %s\n\t%s",
				rule.program, rule.never, rule.why, strings.Join(chain, "\n\t-> "))
		}
	}
}

// What the files of a folder import directly, whatever their build constraint.
// Tests may import what they want, save where a rule says tests.
var folders = []struct {
	folder string   // below the root folder, "." for all
	except []string // folders below it that may
	never  string
	allow  []string // packages that never covers, and that are fine
	tests  bool     // the rule binds tests, too
	why    string
}{
	{
		folder: ".", except: []string{"cmd/waggle-kubernetes", "controlplane"},
		never: "k8s.io/kubernetes/...", tests: true,
		why: "waggle-kubernetes alone embeds Kubernetes",
	},
	{
		folder: ".", never: "github.com/containerd/containerd/...", tests: true,
		why: "containerd's CRI does not compile beside the kubelet's: it has a module of its own, and is spoken to over its socket",
	},
	{
		folder: "datapath", except: []string{"datapath/intent/file", "datapath/intent/kube"}, never: "k8s.io/...",
		why: "past the intent there are typed values, no Kubernetes objects",
	},
	{
		folder: "policy", never: "github.com/cilium/ebpf/...",
		why: "compiling policy is pure: datapath/maps carries the result to the kernel",
	},
	{
		folder: ".", except: []string{"datapath", "bpf", "internal/nl", "test"},
		never: "github.com/cilium/ebpf/...",
		why:   "the datapath alone touches BPF, so that one place knows what is pinned and attached",
	},
	{
		// The plugin removes a pod's device by itself where the daemon is away.
		folder: ".", except: []string{"datapath", "internal/nl", "cni/plugin", "test"},
		never: "github.com/vishvananda/netlink/...",
		why:   "the datapath alone writes to the kernel's network; others, such as the speaker, go through datapath/route",
	},
	{
		folder: "datapath/intent", except: []string{"datapath/intent/file", "datapath/intent/kube"}, never: module + "/...",
		why: "the intent is what everything starts from: it knows nothing of ours",
	},
	{
		folder: ".", except: []string{"test"}, never: module + "/test/...",
		why: "what is shipped does not contain the lab",
	},
}

func TestFoldersImportDownwards(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		for _, rule := range folders {
			if rule.folder != "." && !under(f.path, rule.folder) || f.isTest() && !rule.tests {
				continue
			}
			if slices.ContainsFunc(rule.except, func(dir string) bool { return under(f.path, dir) }) {
				continue
			}
			for _, imp := range f.imports() {
				if matches(imp, rule.never) && !slices.Contains(rule.allow, imp) {
					t.Errorf("%s imports %s: %s", f.path, imp, rule.why)
				}
			}
		}
	}
}

// shared are the packages under datapath that their siblings may know.
var shared = []string{"intent", "maps"}

// Services do not know routes, flows do not know services: what they share is a
// type in one of the shared packages, or a small interface where it is used, and
// what wires them together is datapath itself or a command.
func TestDatapathSiblingsStayApart(t *testing.T) {
	sibling := func(importPath string) string {
		rest, ok := strings.CutPrefix(importPath, module+"/datapath/")
		if !ok {
			return ""
		}
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	for _, f := range mustGoFiles(t) {
		from := sibling(module + "/" + f.dir())
		if from == "" || f.isTest() {
			continue
		}
		for _, imp := range f.imports() {
			to := sibling(imp)
			if to != "" && to != from && !slices.Contains(shared, to) {
				t.Errorf("%s imports datapath/%s: siblings share types in datapath/{%s} or a small interface where it is used",
					f.path, to, strings.Join(shared, ","))
			}
		}
	}
}

func TestFindImport(t *testing.T) {
	graph := map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {}, "d": {"a", "k8s.io/x/y"}}
	for pattern, want := range map[string][]string{
		"c":            {"a", "c"},
		"k8s.io/...":   {"a", "b", "d", "k8s.io/x/y"},
		"k8s.io/x/...": {"a", "b", "d", "k8s.io/x/y"},
		"k8s.io/x":     nil,
		"a":            nil, // itself is no import
	} {
		if got := findImport(graph, "a", pattern); !slices.Equal(got, want) {
			t.Errorf("findImport(%q) = %v, want %v", pattern, got, want)
		}
	}
}

// findImport returns the shortest chain of imports from start to a package that
// the pattern matches, both included, and nil where there is none.
func findImport(graph map[string][]string, start, pattern string) []string {
	from := map[string]string{start: ""}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		for _, imp := range graph[queue[0]] {
			if _, seen := from[imp]; seen {
				continue
			}
			from[imp] = queue[0]
			if !matches(imp, pattern) {
				queue = append(queue, imp)
				continue
			}
			chain := []string{imp}
			for p := queue[0]; p != ""; p = from[p] {
				chain = append(chain, p)
			}
			slices.Reverse(chain)
			return chain
		}
	}
	return nil
}

// matches says whether the pattern means the import path: itself or, where the
// pattern ends in /..., a path below it.
func matches(importPath, pattern string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return under(importPath, dir)
	}
	return importPath == pattern
}

// importGraph maps each package that our programs reach to what it imports. The
// one call of go list takes most of the time of these tests.
func importGraph(t *testing.T) map[string][]string {
	t.Helper()
	// So that a cached result of this test ends with a new dependency: the test
	// cache sees which files a test looks at, not which go list does.
	if _, err := os.Stat(root + "/go.sum"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Imports,ImportMap", "./cmd/...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	graph := make(map[string][]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
			ImportMap  map[string]string // what the standard library vendors
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			t.Fatalf("decode the output of go list: %v", err)
		}
		imports := make([]string, 0, len(pkg.Imports))
		for _, imp := range pkg.Imports {
			if to, ok := pkg.ImportMap[imp]; ok {
				imp = to
			}
			imports = append(imports, imp)
		}
		graph[pkg.ImportPath] = imports
	}
}
