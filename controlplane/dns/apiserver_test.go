// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"
)

// apiServer is as much of an API server as CoreDNS asks for: lists and watches of
// services, endpoint slices and namespaces, by TLS.
type apiServer struct {
	t          *testing.T
	kubeconfig string
	addr       string

	mu       sync.Mutex
	server   *httptest.Server // nil while it is away
	version  int
	objects  map[string]map[string]runtime.Object // by resource and namespace/name
	watchers map[chan metav1.WatchEvent]string    // their resource
}

// newAPIServer starts one that serves the objects of a YAML stream.
func newAPIServer(t *testing.T, objects string) *apiServer {
	t.Helper()
	a := &apiServer{t: t, version: 1, watchers: map[chan metav1.WatchEvent]string{},
		objects: map[string]map[string]runtime.Object{"services": {}, "endpointslices": {}, "namespaces": {}}}
	for document := range strings.SplitSeq(objects, "\n---\n") {
		a.set(document)
	}
	a.addr = "127.0.0.1:0"
	a.start()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	a.kubeconfig = writeFile(t, "kubeconfig.yaml", kubeconfigText(a.server.URL, ca))
	t.Cleanup(a.stop)
	return a
}

func kubeconfigText(url string, ca []byte) string {
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": url, "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": "test"}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start listens, at the same address each time.
func (a *apiServer) start() {
	a.t.Helper()
	l, err := net.Listen("tcp", a.addr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.addr = l.Addr().String()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server = httptest.NewUnstartedServer(a)
	a.server.Listener.Close()
	a.server.Listener = l
	a.server.StartTLS()
}

// stop takes the server away: connections are refused.
func (a *apiServer) stop() {
	a.mu.Lock()
	s := a.server
	a.server = nil
	a.mu.Unlock()
	if s != nil {
		s.Listener.Close()
		s.CloseClientConnections()
		s.Close()
	}
}

// set creates or replaces the object of a YAML document.
func (a *apiServer) set(document string) {
	a.t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
		a.t.Fatal(err)
	}
	resource := strings.ToLower(kind.Kind) + "s"
	object := map[string]runtime.Object{
		"services": &corev1.Service{}, "endpointslices": &discoveryv1.EndpointSlice{}, "namespaces": &corev1.Namespace{},
	}[resource]
	if object == nil {
		a.t.Fatalf("no resource for kind %q", kind.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	meta := object.(metav1.Object)
	meta.SetResourceVersion(strconv.Itoa(a.version))
	a.objects[resource][meta.GetNamespace()+"/"+meta.GetName()] = object
	a.tell(resource, watch.Modified, object)
}

func (a *apiServer) tell(resource string, typ watch.EventType, object runtime.Object) {
	for w, r := range a.watchers {
		if r == resource {
			w <- metav1.WatchEvent{Type: string(typ), Object: runtime.RawExtension{Object: object}}
		}
	}
}

// ServeHTTP implements http.Handler.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := filepath.Base(r.URL.Path)
	if _, ok := a.objects[resource]; !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("watch") != "true" && r.URL.Query().Get("watch") != "1" {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.list(w, resource)
		return
	}
	a.watch(w, r, resource)
}

func (a *apiServer) list(w http.ResponseWriter, resource string) {
	kind := map[string]string{"services": "ServiceList", "endpointslices": "EndpointSliceList", "namespaces": "NamespaceList"}[resource]
	group := "v1"
	if resource == "endpointslices" {
		group = "discovery.k8s.io/v1"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": kind, "apiVersion": group,
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)},
		"items":    slices.Collect(maps.Values(a.objects[resource])),
	})
}

// watch streams events. With sendInitialEvents, those start with everything there is,
// and with a version, with what is newer.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	events := make(chan metav1.WatchEvent, 1000)
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	a.mu.Lock()
	if r.URL.Query().Get("sendInitialEvents") != "true" {
		for _, o := range a.objects[resource] {
			if version, _ := strconv.Atoi(o.(metav1.Object).GetResourceVersion()); version > from {
				events <- metav1.WatchEvent{Type: string(watch.Modified), Object: runtime.RawExtension{Object: o}}
			}
		}
	} else {
		for _, o := range a.objects[resource] {
			events <- metav1.WatchEvent{Type: string(watch.Added), Object: runtime.RawExtension{Object: o}}
		}
		events <- bookmark(a.objects[resource], resource, a.version)
	}
	a.watchers[events] = resource
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, events)
	}()
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if json.NewEncoder(w).Encode(e) != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// bookmark ends the initial events.
func bookmark(objects map[string]runtime.Object, resource string, version int) metav1.WatchEvent {
	var empty runtime.Object
	for _, o := range objects {
		empty = reflect.New(reflect.TypeOf(o).Elem()).Interface().(runtime.Object)
		empty.GetObjectKind().SetGroupVersionKind(o.GetObjectKind().GroupVersionKind())
	}
	if empty == nil {
		panic(fmt.Sprintf("a test's API server needs one of %s", resource))
	}
	m := empty.(metav1.Object)
	m.SetResourceVersion(strconv.Itoa(version))
	m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return metav1.WatchEvent{Type: string(watch.Bookmark), Object: runtime.RawExtension{Object: empty}}
}
