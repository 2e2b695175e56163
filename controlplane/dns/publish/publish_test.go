// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/test/await"
)

// cluster is an API server with a publisher.
type cluster struct {
	t      *testing.T
	client *fake.Clientset
	log    *buffer
}

var ipv4 = []netip.Addr{netip.MustParseAddr("10.96.0.10")}

// newCluster starts a publisher. The fake API server forgets what happens between a
// list and a watch, so it refuses to write until all watches stand.
func newCluster(t *testing.T, ips []netip.Addr, objects ...runtime.Object) *cluster {
	t.Helper()
	c := &cluster{t: t, client: fake.NewClientset(objects...), log: &buffer{}}
	watching := make(chan struct{}, 10)
	c.client.PrependWatchReactor("*", func(a ktesting.Action) (bool, watch.Interface, error) {
		w, err := c.client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		watching <- struct{}{}
		return true, w, err
	})
	var standing atomic.Bool
	for _, verb := range []string{"create", "update", "delete"} {
		c.client.PrependReactor(verb, "*", func(a ktesting.Action) (bool, runtime.Object, error) {
			return !standing.Load(), nil, apierrors.NewConflict(a.GetResource().GroupResource(), "", errors.New("not yet"))
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, Config{Client: c.client, ServiceIPs: ips, Port: 5353, Log: slog.New(slog.NewTextHandler(c.log, nil))})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", c.log)
		}
	})
	for range 3 {
		<-watching
	}
	standing.Store(true)
	poke := &corev1.Service{}
	poke.Name = "another-service"
	if _, err := c.client.CoreV1().Services(Namespace).Create(ctx, poke, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) service() (*corev1.Service, error) {
	return c.client.CoreV1().Services(Namespace).Get(context.Background(), Name, metav1.GetOptions{})
}

func (c *cluster) slices() []discoveryv1.EndpointSlice {
	c.t.Helper()
	list, err := c.client.DiscoveryV1().EndpointSlices(Namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// state is everything that is published, as YAML.
func (c *cluster) state() string {
	c.t.Helper()
	var out []string
	write := func(o metav1.Object) {
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
		text, err := yaml.Marshal(o)
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, strings.ReplaceAll(string(text), "  creationTimestamp: null\n", ""))
	}
	if s, err := c.service(); err == nil {
		write(s)
	}
	for _, s := range c.slices() {
		write(&s)
	}
	return strings.Join(out, "---\n")
}

func (c *cluster) await(want string) {
	c.t.Helper()
	await.Until(c.t, func() error {
		if diff := cmp.Diff(want, c.state()); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func node(name, address string, ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{}
	n.Name, n.UID = name, types.UID("uid-"+name)
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return n
}

func TestPublish(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range archive.Files {
				files[f.Name] = string(f.Data)
			}
			var nodes []runtime.Object
			for document := range strings.SplitSeq(files["nodes"], "---\n") {
				n := &corev1.Node{}
				if err := yaml.UnmarshalStrict([]byte(document), n); err != nil {
					t.Fatal(err)
				}
				nodes = append(nodes, n)
			}
			var ips []netip.Addr
			for text := range strings.FieldsSeq(files["addresses"]) {
				ips = append(ips, netip.MustParseAddr(text))
			}
			newCluster(t, ips, nodes...).await(files["want"])
		})
	}
}

// TestDrift has somebody change everything; one thing at a time is put right.
func TestDrift(t *testing.T) {
	c := newCluster(t, ipv4, node("one", "192.0.2.1", corev1.ConditionTrue), node("two", "192.0.2.2", corev1.ConditionTrue))
	await.Until(t, func() error {
		if n := len(c.slices()); n != 2 {
			return fmt.Errorf("%d slices, want 2", n)
		}
		return nil
	})
	good, ctx := c.state(), t.Context()
	services, endpoints := c.client.CoreV1().Services(Namespace), c.client.DiscoveryV1().EndpointSlices(Namespace)
	service := func(change func(*corev1.Service)) error {
		s, err := c.service()
		if err != nil {
			return err
		}
		change(s)
		_, err = services.Update(ctx, s, metav1.UpdateOptions{})
		return err
	}
	slice := func(change func(*discoveryv1.EndpointSlice)) error {
		s := c.slices()[0]
		change(&s)
		_, err := endpoints.Update(ctx, &s, metav1.UpdateOptions{})
		return err
	}
	for name, change := range map[string]func() error{
		"service deleted":          func() error { return services.Delete(ctx, Name, metav1.DeleteOptions{}) },
		"service without labels":   func() error { return service(func(s *corev1.Service) { s.Labels = nil }) },
		"service with other ports": func() error { return service(func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] }) },
		"service without preference": func() error {
			return service(func(s *corev1.Service) { s.Spec.TrafficDistribution = nil })
		},
		"service as a NodePort": func() error { return service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }) },
		"slice deleted":         func() error { return endpoints.Delete(ctx, "kube-dns-one-ipv4", metav1.DeleteOptions{}) },
		"slice without labels":  func() error { return slice(func(s *discoveryv1.EndpointSlice) { s.Labels = nil }) },
		"slice without owner":   func() error { return slice(func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil }) },
		"slice with another address": func() error {
			return slice(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"203.0.113.1"} })
		},
		"slice of another family": func() error {
			return slice(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 })
		},
		"slice of nobody": func() error {
			s := c.slices()[0].DeepCopy()
			s.Name, s.ResourceVersion = "kube-dns-gone-ipv4", ""
			_, err := endpoints.Create(ctx, s, metav1.CreateOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if c.state() == good {
				t.Log("it was put right at once")
			}
			c.await(good)
		})
	}
	// What is not ours stays, and an annotation is anybody's.
	other := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	other.Name, other.Labels = "metrics", map[string]string{discoveryv1.LabelServiceName: "metrics", discoveryv1.LabelManagedBy: Manager}
	if _, err := endpoints.Create(ctx, other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := service(func(s *corev1.Service) { s.Annotations = map[string]string{"example.org/note": "kept"}; s.Labels = nil }); err != nil {
		t.Fatal(err)
	}
	await.Until(t, func() error {
		s, err := c.service()
		if err != nil {
			return err
		}
		if s.Labels["k8s-app"] != "kube-dns" || s.Annotations["example.org/note"] != "kept" {
			return fmt.Errorf("service has labels %v and annotations %v", s.Labels, s.Annotations)
		}
		return nil
	})
	if n := len(c.slices()); n != 3 {
		t.Errorf("%d slices, want 3: that of another service stays", n)
	}
}

func TestNodesChange(t *testing.T) {
	c := newCluster(t, ipv4)
	nodes, ctx := c.client.CoreV1().Nodes(), t.Context()
	awaitEndpoints := func(want ...string) {
		t.Helper()
		await.Until(t, func() error {
			got := []string{}
			for _, s := range c.slices() {
				got = append(got, fmt.Sprintf("%s %s %t", s.Name, s.Endpoints[0].Addresses[0], *s.Endpoints[0].Conditions.Ready))
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("endpoints are %q, want %q", got, want)
			}
			return nil
		})
	}
	if _, err := nodes.Create(ctx, node("one", "192.0.2.1", corev1.ConditionFalse), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEndpoints("kube-dns-one-ipv4 192.0.2.1 false")
	if _, err := nodes.Update(ctx, node("one", "192.0.2.1", corev1.ConditionTrue), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEndpoints("kube-dns-one-ipv4 192.0.2.1 true")
	if _, err := nodes.Update(ctx, node("one", "192.0.2.9", corev1.ConditionTrue), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEndpoints("kube-dns-one-ipv4 192.0.2.9 true")

	if err := nodes.Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEndpoints()
}

// TestMatters: a node that says again what it said makes no work.
func TestMatters(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Node)
		want   bool
	}{
		"nothing":   {func(*corev1.Node) {}, false},
		"version":   {func(n *corev1.Node) { n.ResourceVersion = "2" }, false},
		"label":     {func(n *corev1.Node) { n.Labels = map[string]string{"some": "label"} }, false},
		"heartbeat": {func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }, false},
		"other condition": {func(n *corev1.Node) {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure})
		}, false},
		"images":       {func(n *corev1.Node) { n.Status.Images = make([]corev1.ContainerImage, 1) }, false},
		"readiness":    {func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, true},
		"address":      {func(n *corev1.Node) { n.Status.Addresses[0].Address = "192.0.2.9" }, true},
		"zone":         {func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelTopologyZone: "rack-a"} }, true},
		"another node": {func(n *corev1.Node) { n.UID = "uid-other" }, true},
	} {
		now := node("one", "192.0.2.1", corev1.ConditionTrue)
		test.change(now)
		before, _ := stripNode(node("one", "192.0.2.1", corev1.ConditionTrue))
		after, err := stripNode(now)
		if got := matters(before, after); err != nil || got != test.want {
			t.Errorf("%s: matters is %t, want %t (%v)", name, got, test.want, err)
		}
	}
}

// TestForeignService leaves somebody's own DNS alone, until it is gone.
func TestForeignService(t *testing.T) {
	c := newCluster(t, ipv4, node("one", "192.0.2.1", corev1.ConditionTrue))
	await.Until(t, func() error {
		if n := len(c.slices()); n != 1 {
			return fmt.Errorf("%d slices, want 1", n)
		}
		return nil
	})
	good, ctx := c.state(), t.Context()
	s, err := c.service()
	if err != nil {
		t.Fatal(err)
	}
	s.Spec.Selector = map[string]string{"k8s-app": "kube-dns"}
	s.Spec.TrafficDistribution = nil
	if _, err := c.client.CoreV1().Services(Namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await.Until(t, func() error {
		if n := len(c.slices()); n != 0 {
			return fmt.Errorf("%d slices beside somebody's own, want none", n)
		}
		return nil
	})
	// Something else to look at: the word is said once.
	if _, err := c.client.CoreV1().Nodes().Create(ctx, node("two", "192.0.2.2", corev1.ConditionTrue), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.client.CoreV1().Nodes().Delete(ctx, "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.service(); err != nil || got.Spec.TrafficDistribution != nil {
		t.Errorf("somebody's own service was changed: %v, %v", got, err)
	}
	if err := c.client.CoreV1().Services(Namespace).Delete(ctx, Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(good)
	if n := strings.Count(c.log.String(), "cluster DNS is not published"); n != 1 {
		t.Errorf("the log says %d times that it is not published, want once", n)
	}
}

// TestExistingService meets a service that was there before.
func TestExistingService(t *testing.T) {
	dual := []netip.Addr{ipv4[0], netip.MustParseAddr("fd00:10:96::a")}
	for _, test := range []struct {
		name    string
		change  func(*corev1.Service)
		want    string // its addresses in the end
		deleted bool
	}{
		{"of the same address", func(s *corev1.Service) { s.Labels = nil }, "[10.96.0.10 fd00:10:96::a]", false},
		{"of one family", func(s *corev1.Service) {
			s.Spec.ClusterIPs, s.Spec.IPFamilies = s.Spec.ClusterIPs[:1], s.Spec.IPFamilies[:1]
			s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
		}, "[10.96.0.10 fd00:10:96::a]", false},
		{"ours, of another address", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.10", []string{"10.43.0.10", "fd00:10:96::a"}
		}, "[10.96.0.10 fd00:10:96::a]", true},
		{"ours, of another second address", func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00:10:43::a"}
		}, "[10.96.0.10 fd00:10:96::a]", true},
		{"of others, of another address", func(s *corev1.Service) {
			s.Labels = nil
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.10", []string{"10.43.0.10"}
		}, "[10.43.0.10]", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := newPublisher(Config{Client: fake.NewClientset(), ServiceIPs: dual, Port: 5353})
			if err != nil {
				t.Fatal(err)
			}
			existing := p.wantService(&corev1.Service{})
			existing.UID = "uid-before"
			test.change(existing)
			foreign := test.want == "[10.43.0.10]"
			c := newCluster(t, dual, existing, node("one", "192.0.2.1", corev1.ConditionTrue))
			await.Until(t, func() error {
				s, err := c.service()
				if err != nil {
					return err
				}
				said := strings.Contains(c.log.String(), "cluster DNS is not published")
				if got := fmt.Sprint(s.Spec.ClusterIPs); got != test.want || s.UID == "" != test.deleted || said != foreign || len(c.slices()) == 0 != foreign {
					return fmt.Errorf("addresses %s, want %s; deleted %t, want %t; said to be another's %t, want %t; %d slices",
						got, test.want, s.UID == "", test.deleted, said, foreign, len(c.slices()))
				}
				return nil
			})
		})
	}
}

// TestFailure has the API server refuse at first.
func TestFailure(t *testing.T) {
	client := fake.NewClientset(node("one", "192.0.2.1", corev1.ConditionTrue))
	var refused atomic.Bool
	client.PrependReactor("create", "services", func(ktesting.Action) (bool, runtime.Object, error) {
		if refused.Swap(true) {
			return false, nil, nil
		}
		return true, nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), Name, nil)
	})
	log := &buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, Config{Client: client, ServiceIPs: ipv4, Port: 5353, Log: slog.New(slog.NewTextHandler(log, nil))})
	}()
	await.Until(t, func() error {
		_, err := client.CoreV1().Services(Namespace).Get(ctx, Name, metav1.GetOptions{})
		return err
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if !strings.Contains(log.String(), "has another service the address 10.96.0.10?") {
		t.Errorf("the log names no cause:\n%s", log)
	}
	// The failed service did not keep the endpoints back.
	if _, err := client.DiscoveryV1().EndpointSlices(Namespace).Get(t.Context(), "kube-dns-one-ipv4", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestBadConfig(t *testing.T) {
	v6 := netip.MustParseAddr("fd00:10:96::a")
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{ServiceIPs: ipv4, Port: 53}, "no client"},
		{Config{Client: fake.NewClientset(), ServiceIPs: ipv4}, "port"},
		{Config{Client: fake.NewClientset(), Port: 53}, "one or two are possible"},
		{Config{Client: fake.NewClientset(), Port: 53, ServiceIPs: []netip.Addr{v6, v6}}, "give one for each"},
		{Config{Client: fake.NewClientset(), Port: 53, ServiceIPs: []netip.Addr{{}}}, "not addresses of a service"},
	} {
		if err := Run(t.Context(), test.config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Run: %v, want: %s", err, test.want)
		}
	}
}

func TestSliceName(t *testing.T) {
	long := strings.Repeat("n", 200) + "." + strings.Repeat("m", 52)
	a, b := sliceName(long, "-ipv4"), sliceName(strings.Repeat("n", 200)+"."+strings.Repeat("m", 51)+"k", "-ipv4")
	if a == b || len(a) > 253 || len(b) > 253 || !strings.HasSuffix(a, "-ipv4") {
		t.Errorf("long names become %q and %q: want two names of at most 253 characters", a, b)
	}
	if got := sliceName("one", "-ipv6"); got != "kube-dns-one-ipv6" {
		t.Errorf("sliceName(one) = %q", got)
	}
}

// TestStripNode: what is kept of a node is enough.
func TestStripNode(t *testing.T) {
	p, err := newPublisher(Config{Client: fake.NewClientset(), ServiceIPs: ipv4, Port: 5353})
	if err != nil {
		t.Fatal(err)
	}
	full := node("one", "192.0.2.1", corev1.ConditionTrue)
	full.Labels = map[string]string{corev1.LabelTopologyZone: "rack-a", "other": "label"}
	full.Status.Images = []corev1.ContainerImage{{Names: []string{"registry.example.org/image"}}}
	stripped, err := stripNode(full)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.nodeSlices(full), p.nodeSlices(stripped.(*corev1.Node))); diff != "" {
		t.Errorf("(-full +stripped):\n%s", diff)
	}
	if n := stripped.(*corev1.Node); len(n.Status.Images) > 0 || len(n.Labels) != 1 {
		t.Errorf("kept %v", n)
	}
	if o, err := stripNode(errors.New("other")); err != nil || o == nil {
		t.Error("what is no node is not passed on")
	}
}

func TestObjects(t *testing.T) {
	var got strings.Builder
	for _, o := range Objects() {
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("---\n" + string(text))
	}
	const want = `---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/managed-by: waggle-kube
  name: waggle:node-dns
rules:
- apiGroups:
  - ""
  resources:
  - namespaces
  - services
  verbs:
  - list
  - watch
- apiGroups:
  - discovery.k8s.io
  resources:
  - endpointslices
  verbs:
  - list
  - watch
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  labels:
    app.kubernetes.io/managed-by: waggle-kube
  name: waggle:node-dns
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: waggle:node-dns
subjects:
- apiGroup: rbac.authorization.k8s.io
  kind: Group
  name: system:nodes
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
