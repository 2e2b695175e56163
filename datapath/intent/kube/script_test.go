// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/datapath/intent"
)

var update = flag.Bool("update", false, "write the expected output of the txtar files anew")

// TestScripts does what each file of a txtar says, by its name: apply and delete
// the objects, and compare the tables, and what was logged, with want.
func TestScripts(t *testing.T) {
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
			var log strings.Builder
			s, state := New(Config{NodeName: "node1", Logger: textLogger(&log)}), intent.NewState()
			for i := range ar.Files {
				switch f := &ar.Files[i]; f.Name {
				case "apply", "delete":
					for _, o := range decode(t, f.Data) {
						s.feed(o, f.Name == "delete")
					}
				case "want":
					s.apply(state)
					got := render(state) + log.String()
					log.Reset()
					if *update {
						f.Data = []byte(got)
					} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
						t.Errorf("file %d: -want +got:\n%s", i, diff)
					}
				default:
					t.Fatalf("file %q: use apply, delete or want", f.Name)
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(ar), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// textLogger writes warnings, and worse, without the time.
func textLogger(b *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.MessageKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// feed does what an informer does with an object.
func (s *Source) feed(o runtime.Object, gone bool) {
	var inf *informer
	switch o.(type) {
	case *corev1.Node:
		inf = s.nodes
	case *corev1.Pod:
		inf = s.pods
	case *corev1.Service:
		inf = s.services
	case *discoveryv1.EndpointSlice:
		inf = s.slices
	}
	obj, _ := convert(o)
	old, had, _ := inf.Get(obj)
	switch {
	case gone:
		inf.Delete(obj)
		inf.handler.OnDelete(old)
	case had:
		inf.Update(obj)
		inf.handler.OnUpdate(old, obj)
	default:
		inf.Add(obj)
		inf.handler.OnAdd(obj, false)
	}
}

// decode reads the documents of a YAML file.
func decode(t testing.TB, data []byte) (objects []runtime.Object) {
	t.Helper()
	for doc := range strings.SplitSeq(string(data), "---\n") {
		o, err := decodeOne([]byte(doc))
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		objects = append(objects, o)
	}
	return objects
}

func decodeOne(doc []byte) (runtime.Object, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return nil, err
	}
	var o runtime.Object
	switch kind.Kind {
	case "Node":
		o = &corev1.Node{}
	case "Pod":
		o = &corev1.Pod{}
	case "Service":
		o = &corev1.Service{}
	case "EndpointSlice":
		o = &discoveryv1.EndpointSlice{}
	default:
		return nil, fmt.Errorf("kind %q is not known here", kind.Kind)
	}
	return o, yaml.UnmarshalStrict(doc, o)
}

// render writes a line for each node, pod, frontend and backend.
func render(state *intent.State) string {
	var b strings.Builder
	nodes, _ := state.Nodes.Snapshot()
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		fmt.Fprintf(&b, "node %s %v pods %v\n", n.Name, n.Addresses, n.PodCIDRs)
	}
	pods, _ := state.Pods.Snapshot()
	for _, name := range slices.SortedFunc(maps.Keys(pods), intent.Name.Compare) {
		p := pods[name]
		fmt.Fprintf(&b, "pod %s uid %s %v host network %t labels %v\n", p.Name, p.UID, p.Addresses, p.HostNetwork, p.Labels)
	}
	services, _ := state.Services.Snapshot()
	for _, name := range slices.SortedFunc(maps.Keys(services), intent.Name.Compare) {
		s := services[name]
		fmt.Fprintf(&b, "service %s %v\n", s.Name, s.ClusterIPs)
		for _, p := range s.Ports {
			fmt.Fprintf(&b, "  port %q %d/%s", p.Name, p.Port, p.Protocol)
			if p.NodePort != 0 {
				fmt.Fprintf(&b, " node port %d", p.NodePort)
			}
			fmt.Fprintln(&b)
			for _, be := range p.Backends {
				fmt.Fprintf(&b, "    backend %s port %d ready %t\n", be.Address, be.Port, be.Ready)
			}
		}
	}
	return b.String()
}
