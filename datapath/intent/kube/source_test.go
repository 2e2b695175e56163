// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/waggle-net/waggle/datapath/intent"
)

// Whichever is last, nothing is there before it, and then all is.
func TestNothingBeforeAll(t *testing.T) {
	for i, name := range []string{"nodes", "pods", "services", "endpointslices"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, objects, func(t *testing.T, w *world) {
				slow := make(chan struct{})
				w.all()[i].slow = slow
				changes := w.state.Services.Watch()
				w.start()
				if got := w.synced(); len(got) > 0 {
					t.Errorf("without %s, synced are %v", name, got)
				}
				w.want("")
				close(slow)
				synctest.Wait()
				if got := w.synced(); len(got) != 3 {
					t.Errorf("only %v are synced", got)
				}
				w.want(tables)
				first, _ := changes.Next()
				if svc := first[intent.Name{Namespace: "default", Name: "web"}]; svc == nil || len(svc.Ports[0].Backends) != 1 {
					t.Errorf("the first that is seen of the service is %v", svc)
				}
			})
		})
	}
}

func TestFollowsChanges(t *testing.T) {
	inWorld(t, objects, func(_ *testing.T, w *world) {
		w.start()
		w.want(tables)
		w.modify(strings.ReplaceAll(sliceDoc, "192.0.2.2", "192.0.2.3"))
		w.want(strings.ReplaceAll(tables, "backend 192.0.2.2", "backend 192.0.2.3"))
		w.delete(serviceDoc)
		w.delete(podDoc)
		w.delete(nodeDoc)
		w.want("")
	})
}

// While the loop is busy, changes of one service become one.
func TestCoalesces(t *testing.T) {
	inWorld(t, objects+"---"+apiDoc("192.0.2.8"), func(t *testing.T, w *world) {
		busy := make(chan struct{})
		w.servers = func([]netip.AddrPort) { <-busy }
		w.start()
		for i := range 20 {
			w.modify(strings.ReplaceAll(sliceDoc, "192.0.2.2", fmt.Sprintf("192.0.2.%d", 10+i)))
		}
		if got := w.source.dirty.services; len(got) != 1 {
			t.Errorf("to be looked at are %v", got)
		}
		close(busy)
		synctest.Wait()
		w.want(strings.ReplaceAll(tables, "backend 192.0.2.2", "backend 192.0.2.29"))
	})
}

// apiDoc is the slice that the API servers keep.
func apiDoc(addresses ...string) string {
	return fmt.Sprintf(`
kind: EndpointSlice
metadata: {namespace: default, name: kubernetes, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443, protocol: TCP}]
endpoints: [{addresses: [%s]}]
`, strings.Join(addresses, "]}, {addresses: ["))
}

func TestServers(t *testing.T) {
	inWorld(t, objects+"---"+apiDoc("198.51.100.2", "198.51.100.1"), func(t *testing.T, w *world) {
		var told []string
		w.servers = func(s []netip.AddrPort) {
			told = append(told, fmt.Sprint(s))
			clear(s) // it is the callee's
		}
		w.start()
		w.modify(apiDoc("198.51.100.1", "198.51.100.2")) // the same
		w.modify(sliceDoc)                               // another's
		w.modify(apiDoc("198.51.100.3"))
		w.delete(apiDoc("198.51.100.3")) // never none
		w.modify(apiDoc("198.51.100.3"))
		w.modify(strings.ReplaceAll(apiDoc("2001:db8::1"), "IPv4", "IPv6"))
		want := []string{"[198.51.100.1:6443 198.51.100.2:6443]", "[198.51.100.3:6443]", "[[2001:db8::1]:6443]"}
		if !slices.Equal(told, want) {
			t.Errorf("told is %v, want %v", told, want)
		}
	})
}

func TestHolds(t *testing.T) {
	both := strings.ReplaceAll(podDoc, "name: web", "name: next")
	inWorld(t, objects, func(t *testing.T, w *world) {
		w.pods.slow = make(chan struct{})
		holds := func(when string, want bool) {
			t.Helper()
			for _, a := range []string{"192.0.2.2", "::ffff:192.0.2.2", "2001:db8::2"} {
				if got := w.source.Holds(netip.MustParseAddr(a)); got != want {
					t.Errorf("%s, it holds %s: %t", when, a, got)
				}
			}
			if w.source.Holds(netip.MustParseAddr("192.0.2.3")) || w.source.Holds(netip.Addr{}) {
				t.Errorf("%s, it holds what nobody has", when)
			}
		}
		w.start()
		holds("before there are pods", false)
		close(w.pods.slow)
		synctest.Wait()
		holds("while the pod runs", true)
		w.modify(strings.ReplaceAll(podDoc, "Running", "Succeeded"))
		holds("after it finished", false)
		w.modify(both)
		w.delete(podDoc)
		holds("after another has its address", true)
		w.delete(both)
		holds("after it is deleted", false)
	})
}

func TestNode(t *testing.T) {
	without := strings.ReplaceAll(nodeDoc, "podCIDRs: [192.0.2.0/26]", "")
	inWorld(t, podDoc, func(t *testing.T, w *world) {
		w.services.slow = make(chan struct{}) // the node does not wait for anything else
		w.start()
		fails := func(want string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := w.source.Node(ctx); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		fails("wait for node node1 in the API: context deadline exceeded: is its kubelet")
		w.modify(strings.ReplaceAll(nodeDoc, "name: node1", "name: node2"))
		fails("wait for node node1 in the API: context deadline exceeded")
		w.modify(without)
		fails("wait for spec.podCIDRs of node node1: context deadline exceeded: start kube-controller-manager")
		go w.nodes.Modify(decode(t, []byte(nodeDoc))[0])
		is := func(want string) {
			t.Helper()
			if n, err := w.source.Node(t.Context()); err != nil || fmt.Sprint(n) != want {
				t.Errorf("got %v, %v, want %s", n, err, want)
			}
		}
		is("{node1 [198.51.100.1] [192.0.2.0/26]}")
		synctest.Wait()
		w.modify(strings.ReplaceAll(nodeDoc, "198.51.100.1", "198.51.100.2"))
		is("{node1 [198.51.100.2] [192.0.2.0/26]}")
		w.modify(without)
		w.delete(without)
		is("{node1 [198.51.100.2] [192.0.2.0/26]}") // its ranges are in use
		close(w.services.slow)
	})
}

// streaming is a resource that is listed by watching, as that of a real server.
type streaming struct {
	mu      sync.Mutex
	objects []runtime.Object
	asked   []metav1.ListOptions
	watches []*watch.FakeWatcher
}

// List must not be called.
func (s *streaming) List(metav1.ListOptions) (runtime.Object, error) {
	return nil, apierrors.NewInternalError(fmt.Errorf("listed"))
}

func (s *streaming) Watch(o metav1.ListOptions) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, o)
	w := watch.NewFakeWithChanSize(len(s.objects)+1, false)
	s.watches = append(s.watches, w)
	if o.SendInitialEvents == nil || !*o.SendInitialEvents {
		return w, nil
	}
	for _, o := range s.objects {
		w.Add(o)
	}
	w.Action(watch.Bookmark, &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		ResourceVersion: "7", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}})
	return w, nil
}

// The services are listed by watching where that works: a server sends one
// object after the other, and holds none of them for it.
func TestStreamed(t *testing.T) {
	inWorld(t, objects, func(t *testing.T, w *world) {
		stream := &streaming{objects: decode(t, []byte(serviceDoc))}
		w.source = New(Config{NodeName: "node1", Nodes: w.nodes, Pods: w.pods, Services: stream, EndpointSlices: w.endpointSlices})
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel = cancel
		go w.source.Run(ctx, w.state)
		synctest.Wait()
		w.want(tables)
		if len(stream.asked) != 1 || w.source.Problem() != nil {
			t.Errorf("asked is %v, and the problem %v", stream.asked, w.source.Problem())
		}
		stream.watches[0].Delete(stream.objects[0])
		synctest.Wait()
		if services, _ := w.state.Services.Snapshot(); len(services) > 0 {
			t.Errorf("after it was deleted, there is %v", services)
		}
	})
}
