// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/waggle-net/waggle/datapath/intent"
)

// The API is away for hours. Nothing changes while it is, and what is seen after
// it are the changes alone.
func TestAway(t *testing.T) {
	refused := fmt.Errorf("dial tcp: %w", syscall.ECONNREFUSED)
	inWorld(t, objects+"---"+strings.ReplaceAll(podDoc, "name: web", "name: gone"), func(t *testing.T, w *world) {
		w.start()
		before := render(w.state)
		services, pods := w.state.Services.Watch(), w.state.Pods.Watch()
		services.Next()
		pods.Next()
		time.Sleep(time.Hour) // a watch that ends at once would be another case
		for _, r := range w.all() {
			r.fail(refused, refused)
			r.ResetWatch()
		}
		w.each(sliceDoc, func(r *resource, o runtime.Object) { r.DeleteDropWatch(o) })
		w.each(strings.ReplaceAll(podDoc, "name: web", "name: gone"), func(r *resource, o runtime.Object) { r.DeleteDropWatch(o) })
		time.Sleep(6 * time.Hour)
		if err := w.source.Problem(); err == nil || !strings.Contains(err.Error(), "watch endpointslices of the API: dial tcp: connection refused (since 2000-01-01T01:0") {
			t.Errorf("six hours after, the problem is %v", err)
		}
		w.want(before)
		if n := w.logged("cannot be watched"); n != 1 {
			t.Errorf("one outage is logged %d times:\n%s", n, &w.log)
		}
		for _, r := range w.all() {
			r.fail(nil, nil)
		}
		time.Sleep(2 * time.Minute)
		if err := w.source.Problem(); err != nil {
			t.Errorf("after the outage, the problem is %v", err)
		}
		if n := w.logged("watched again"); n != 1 {
			t.Errorf("the end is logged %d times:\n%s", n, &w.log)
		}
		w.want(strings.ReplaceAll(tables, "    backend 192.0.2.2 port 80 ready true\n", ""))
		if changes, _ := services.Next(); len(changes) != 1 || changes[intent.Name{Namespace: "default", Name: "web"}] == nil {
			t.Errorf("the changes of services are %v", changes)
		}
		if changes, _ := pods.Next(); len(changes) != 1 {
			t.Errorf("the changes of pods are %v", changes)
		}
	})
}

// A server that cannot say what happened meanwhile is asked for everything. That
// all is as it was is no change, and what is wrong is not said again.
func TestListedAgain(t *testing.T) {
	bad := strings.ReplaceAll(serviceDoc, "203.0.113.10", "none")
	inWorld(t, objects+"---"+strings.ReplaceAll(bad, "name: web", "name: bad"), func(t *testing.T, w *world) {
		w.start()
		services := w.state.Services.Watch()
		services.Next()
		time.Sleep(time.Hour) // as in TestAway: it asks for what came since
		for _, r := range w.all() {
			r.ResetWatch()
		}
		w.each(sliceDoc, func(r *resource, o runtime.Object) { r.ModifyDropWatch(o) })
		time.Sleep(2 * time.Minute)
		w.want(tables)
		if changes, _ := services.Next(); len(changes) > 0 {
			t.Errorf("changes are %v", changes)
		}
		if n := w.logged("not understood"); n != 1 {
			t.Errorf("what is not understood is logged %d times:\n%s", n, &w.log)
		}
		if err := w.source.Problem(); err != nil || w.logged("cannot be watched") > 0 {
			t.Errorf("a list that is due is a problem: %v", err)
		}
	})
}

// A call that ends with the Source is no outage.
func TestStoppedCall(t *testing.T) {
	var log strings.Builder
	out := newOutage(slog.New(slog.NewTextHandler(&log, nil)))
	failing := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) { return nil, ctx.Err() },
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := &observed{failing, failing, "pods", out}
	if _, err := o.ListWithContext(ctx, metav1.ListOptions{}); err == nil || out.problem() != nil || log.Len() > 0 {
		t.Errorf("listing ends with %v, and the problem %v, logged as %s", err, out.problem(), &log)
	}
}

// Who may list and not watch has a problem that lasts.
func TestForbidden(t *testing.T) {
	inWorld(t, objects, func(t *testing.T, w *world) {
		w.pods.fail(nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", nil))
		w.start()
		time.Sleep(10 * time.Minute)
		want := `watch pods of the API: pods is forbidden: <nil> (since 2000-01-01T00:00:00Z)`
		if err := w.source.Problem(); err == nil || err.Error() != want || !apierrors.IsForbidden(err) {
			t.Errorf("the problem is %v, want %s", err, want)
		}
		if n := w.logged("cannot be watched"); n != 1 || w.logged("watched again") != 0 {
			t.Errorf("it is logged %d times:\n%s", n, &w.log)
		}
	})
}
