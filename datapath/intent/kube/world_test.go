// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/waggle-net/waggle/datapath/intent"
)

func TestMain(m *testing.M) {
	// One of them pauses for as long as its clock is ahead of that of a test.
	utilruntime.ErrorHandlers = nil //nolint:reassign // it is there for that
	os.Exit(m.Run())
}

// resource is one resource of the API: it can be slow, and it can be away.
type resource struct {
	*cachetesting.FakeControllerSource
	slow chan struct{} // lists wait until it is closed; nil for none

	mu          sync.Mutex
	list, watch error // what calls fail with
}

func newResource() *resource {
	return &resource{FakeControllerSource: cachetesting.NewFakeControllerSource()}
}

func (r *resource) List(o metav1.ListOptions) (runtime.Object, error) {
	if r.slow != nil {
		<-r.slow
	}
	if err, _ := r.errors(); err != nil {
		return nil, err
	}
	return r.FakeControllerSource.List(o)
}

func (r *resource) Watch(o metav1.ListOptions) (watch.Interface, error) {
	if _, err := r.errors(); err != nil {
		return nil, err
	}
	return r.FakeControllerSource.Watch(o)
}

// IsWatchListSemanticsUnSupported: the fake cannot list by watching.
func (r *resource) IsWatchListSemanticsUnSupported() bool { return true }

func (r *resource) errors() (list, watch error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list, r.watch
}

func (r *resource) fail(list, watch error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.watch = list, watch
}

// world is an API and a Source of it.
type world struct {
	t                                     *testing.T
	nodes, pods, services, endpointSlices *resource
	log                                   strings.Builder // read it when all is quiet
	servers                               func([]netip.AddrPort)
	source                                *Source
	state                                 *intent.State
	cancel                                context.CancelFunc
}

// inWorld runs a test in a bubble of time of its own: what waits there waits at
// no cost, and synctest.Wait returns when all that can happen has.
func inWorld(t *testing.T, objects string, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: newResource(), pods: newResource(), services: newResource(), endpointSlices: newResource(), state: intent.NewState()}
		for _, o := range decode(t, []byte(objects)) {
			w.of(o).Add(o)
		}
		test(t, w)
		w.cancel()
		time.Sleep(2 * time.Minute) // no pause between attempts is longer
		for _, r := range w.all() {
			r.Shutdown() // nothing may ask it after
		}
	})
}

func (w *world) all() []*resource { return []*resource{w.nodes, w.pods, w.services, w.endpointSlices} }

// of is the resource of an object.
func (w *world) of(o runtime.Object) *resource {
	switch o.(type) {
	case *corev1.Node:
		return w.nodes
	case *corev1.Pod:
		return w.pods
	case *corev1.Service:
		return w.services
	}
	return w.endpointSlices
}

// start runs the Source, until all that can happen has.
func (w *world) start() {
	w.source = New(Config{
		NodeName: "node1", Nodes: w.nodes, Pods: w.pods, Services: w.services, EndpointSlices: w.endpointSlices, Servers: w.servers,
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() {
		if err := w.source.Run(ctx, w.state); err != nil {
			w.t.Errorf("run: %v", err)
		}
	}()
	synctest.Wait()
}

func (w *world) modify(doc string) { w.each(doc, (*resource).modify) }
func (w *world) delete(doc string) { w.each(doc, (*resource).delete) }

func (r *resource) modify(o runtime.Object) { r.Modify(o) }
func (r *resource) delete(o runtime.Object) { r.Delete(o) }

func (w *world) each(docs string, do func(*resource, runtime.Object)) {
	for _, o := range decode(w.t, []byte(docs)) {
		do(w.of(o), o)
	}
	synctest.Wait()
}

func (w *world) synced() (out []string) {
	if _, ok := w.state.Nodes.Snapshot(); ok {
		out = append(out, "nodes")
	}
	if _, ok := w.state.Pods.Snapshot(); ok {
		out = append(out, "pods")
	}
	if _, ok := w.state.Services.Snapshot(); ok {
		out = append(out, "services")
	}
	return out
}

func (w *world) want(want string) {
	w.t.Helper()
	if got := render(w.state); got != want {
		w.t.Errorf("the tables have\n%s\nwant\n%s", got, want)
	}
}

func (w *world) logged(what string) int { return strings.Count(w.log.String(), what) }

const (
	nodeDoc = `
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [192.0.2.0/26]}
status: {addresses: [{type: InternalIP, address: 198.51.100.1}]}
`
	podDoc = `
kind: Pod
metadata: {namespace: default, name: web, uid: u1}
spec: {nodeName: node1, containers: []}
status: {phase: Running, podIPs: [{ip: 192.0.2.2}, {ip: "2001:db8::2"}]}
`
	serviceDoc = `
kind: Service
metadata: {namespace: default, name: web}
spec: {clusterIPs: [203.0.113.10], ports: [{port: 80}]}
`
	sliceDoc = `
kind: EndpointSlice
metadata: {namespace: default, name: web-a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [192.0.2.2]}]
`
	objects = nodeDoc + "---" + podDoc + "---" + serviceDoc + "---" + sliceDoc
	tables  = `node node1 [198.51.100.1] pods [192.0.2.0/26]
pod default/web uid u1 [192.0.2.2 2001:db8::2] host network false labels map[]
service default/web [203.0.113.10]
  port "" 80/TCP
    backend 192.0.2.2 port 80 ready true
`
)
