// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/tools/cache"

	"github.com/waggle-net/waggle/test/await"
)

// TestWatchThroughFailover follows pods while API servers come and go. There is
// nothing to list again: a watch goes on at another server where it was.
func TestWatchThroughFailover(t *testing.T) {
	both(t, func(t *testing.T, ip string) {
		s := newSetup(t)
		api := newAPI(t)
		a, b := newHost(t, s.ca, ip, api), newHost(t, s.ca, ip, api)
		c := s.client(a.url(), b.url())
		api.add("1")

		store := cache.NewStore(cache.MetaNamespaceKeyFunc)
		lw := c.ListWatch(Pods, Query{Fields: "spec.nodeName=node-1", Labels: "app"})
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); <-done }()
		r := cache.NewReflectorWithOptions(lw, &corev1.Pod{}, store, cache.ReflectorOptions{Name: "pods"})
		go func() { defer close(done); r.RunWithContext(ctx) }()

		// Something happens at each server, as client-go takes a watch that ends
		// without for a bad one.
		wantPods(t, store, "1")
		api.add("2")
		wantPods(t, store, "1", "2")
		a.stop()
		api.add("3")
		wantPods(t, store, "1", "2", "3")
		a.start()
		b.stop()
		api.add("4")
		wantPods(t, store, "1", "2", "3", "4")

		var watches []url.Values
		for _, q := range append(a.seen(), b.seen()...) {
			path, query, _ := strings.Cut(strings.TrimPrefix(q.line, "GET "), "?")
			v, err := url.ParseQuery(query)
			if err != nil || path != "/api/v1/pods" || v.Get("watch") != "true" {
				t.Fatalf("the request is %s, want a watch of pods", q.line)
			}
			if v.Get("fieldSelector") != "spec.nodeName=node-1" || v.Get("labelSelector") != "app" {
				t.Errorf("the selectors are %v", v)
			}
			watches = append(watches, v)
		}
		streamed := func(v url.Values) bool { return v.Get("sendInitialEvents") == "true" }
		first := slices.IndexFunc(watches, streamed)
		if first != 0 || slices.ContainsFunc(watches[1:], streamed) {
			t.Errorf("the watches are %v, want the first alone to stream what there is", watches)
		}
		if v := watches[len(watches)-1]; v.Get("resourceVersion") == "" || v.Get("resourceVersion") == "0" {
			t.Errorf("the last watch is %v, want one that goes on", v)
		}
	})
}

func wantPods(t *testing.T, store cache.Store, names ...string) {
	t.Helper()
	var want []string
	for _, n := range names {
		want = append(want, "default/"+n)
	}
	await.Until(t, func() error {
		got := store.ListKeys()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("the pods are %v, want %v", got, want)
		}
		return nil
	})
}

// TestResources asks for each resource where it is.
func TestResources(t *testing.T) {
	s := newSetup(t)
	api := newAPI(t)
	a := newHost(t, s.ca, "127.0.0.1", api)
	c := s.client(a.url())
	for _, tt := range []struct {
		resource Resource
		query    Query
		path     string
		list     runtime.Object
	}{
		{Nodes, Query{}, "/api/v1/nodes", &corev1.NodeList{}},
		{Pods, Query{}, "/api/v1/pods", &corev1.PodList{}},
		{Services, Query{Namespace: "a"}, "/api/v1/namespaces/a/services", &corev1.ServiceList{}},
		{EndpointSlices, Query{}, "/apis/discovery.k8s.io/v1/endpointslices", &discoveryv1.EndpointSliceList{}},
	} {
		api.serve(tt.path, tt.list)
		got, err := c.ListWatch(tt.resource, tt.query).ListWithContext(t.Context(), metav1.ListOptions{})
		if err != nil || fmt.Sprintf("%T", got) != fmt.Sprintf("%T", tt.list) {
			t.Errorf("the list of %s is %T, %v, want %T", tt.resource, got, err, tt.list)
		}
	}
	var slice discoveryv1.EndpointSlice
	api.serve("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, AddressType: discoveryv1.AddressTypeIPv6})
	err := c.Discovery().Get().Namespace("default").Resource("endpointslices").Name("kubernetes").Do(t.Context()).Into(&slice)
	if err != nil || slice.Name != "kubernetes" || slice.AddressType != discoveryv1.AddressTypeIPv6 {
		t.Errorf("the slice is %+v, %v", slice, err)
	}
}

// api is what all API servers of a cluster serve alike: lists, and a watch of pods
// with the meaning of WatchList. It speaks protobuf alone.
type api struct {
	t      *testing.T
	codecs serializer.CodecFactory
	info   runtime.SerializerInfo

	mu      sync.Mutex
	pods    []*corev1.Pod // pods[i] has the resource version i+1
	changed chan struct{} // closed when a pod is added
	objects map[string]runtime.Object
}

func newAPI(t *testing.T) *api {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	codecs := serializer.NewCodecFactory(scheme)
	info, ok := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		t.Fatal("no protobuf")
	}
	return &api{t: t, codecs: codecs, info: info, changed: make(chan struct{}), objects: map[string]runtime.Object{}}
}

func (a *api) serve(path string, o runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.objects[path] = o
}

func (a *api) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pods = append(a.pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, ResourceVersion: strconv.Itoa(len(a.pods) + 1),
	}})
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *api) since(version int) ([]*corev1.Pod, chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.pods[min(version, len(a.pods)):]), a.changed
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if r.URL.Query().Get("watch") == "true" {
		a.watch(w, r)
		return
	}
	a.mu.Lock()
	o := a.objects[r.URL.Path]
	a.mu.Unlock()
	if o == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	gv := corev1.SchemeGroupVersion
	if strings.HasPrefix(r.URL.Path, "/apis/discovery.k8s.io/") {
		gv = discoveryv1.SchemeGroupVersion
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	w.Write(a.encode(o, gv))
}

func (a *api) watch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	flush := http.NewResponseController(w).Flush
	flush()
	frames := a.info.StreamSerializer.NewFrameWriter(w)
	send := func(event string, o runtime.Object) {
		e := &metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Raw: a.encode(o, corev1.SchemeGroupVersion)}}
		var text bytes.Buffer
		if err := a.info.StreamSerializer.Encode(e, &text); err != nil {
			a.t.Error(err)
		}
		frames.Write(text.Bytes())
		flush()
	}
	version, _ := strconv.Atoi(q.Get("resourceVersion"))
	bookmark := q.Get("sendInitialEvents") == "true"
	if bookmark {
		version = 0
	}
	for {
		pods, changed := a.since(version)
		for _, p := range pods {
			send("ADDED", p)
		}
		version += len(pods)
		if bookmark {
			bookmark = false
			send("BOOKMARK", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				ResourceVersion: strconv.Itoa(version),
				Annotations:     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
			}})
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (a *api) encode(o runtime.Object, gv schema.GroupVersion) []byte {
	text, err := runtime.Encode(a.codecs.EncoderForVersion(a.info.Serializer, gv), o)
	if err != nil {
		a.t.Error(err)
	}
	return text
}
