// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	rbac "k8s.io/kubernetes/pkg/registry/rbac/rest"
	scheduling "k8s.io/kubernetes/pkg/registry/scheduling/rest"
)

// Some of the API server's post-start hooks wait a second before they look for the
// first time (v1.36: wait.Poll), and the API server is not ready before they are done.
// We start these together with the process, so that their second passes meanwhile, and
// have their first request wait until the API server serves. They are upstream's code,
// under their own names.

// earlyHook is a hook that has been started before the API server.
type earlyHook struct {
	name  string
	hook  genericapiserver.PostStartHookFunc
	gate  *gate
	ended chan error
}

// earlyHooks are those that wait (v1.36). They give up with ctx.
func earlyHooks(ctx context.Context) ([]*earlyHook, error) {
	var all []*earlyHook
	for _, p := range []genericapiserver.PostStartHookProvider{rbac.RESTStorageProvider{}, scheduling.RESTStorageProvider{}} {
		name, hook, err := p.PostStartHook()
		if err != nil {
			return nil, fmt.Errorf("make hook %s: %w", name, err)
		}
		all = append(all, newEarlyHook(ctx, name, hook))
	}
	return all, nil
}

func newEarlyHook(ctx context.Context, name string, hook genericapiserver.PostStartHookFunc) *earlyHook {
	return &earlyHook{name: name, hook: hook, gate: &gate{done: ctx.Done(), open: make(chan struct{})}, ended: make(chan error, 1)}
}

func (h *earlyHook) start(ctx context.Context) {
	go func() {
		h.ended <- h.hook(genericapiserver.PostStartHookContext{LoopbackClientConfig: h.gate.config(), Context: ctx})
	}()
}

// finish is the hook as far as the API server knows: it lets the requests through. An
// early one that failed, as after half a minute, is as if it had not been.
func (h *earlyHook) finish(c genericapiserver.PostStartHookContext) error {
	if err := h.gate.pass(c.LoopbackClientConfig); err != nil {
		return err
	}
	if err := <-h.ended; err != nil && c.Err() == nil {
		return h.hook(c)
	}
	return nil
}

// gate holds requests up until it is told where they go.
type gate struct {
	done <-chan struct{} // closed when nobody waits any more
	open chan struct{}
	to   *url.URL
	by   http.RoundTripper
}

// config is that of a client through the gate. As on loopback, nothing limits it.
func (g *gate) config() *rest.Config {
	return &rest.Config{
		Host: "https://gate", Transport: g, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeProtobuf},
	}
}

// pass opens the gate, once.
func (g *gate) pass(loopback *rest.Config) error {
	to, _, err := rest.DefaultServerUrlFor(loopback)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	by, err := rest.TransportFor(loopback)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	g.to, g.by = to, by
	close(g.open)
	return nil
}

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-g.open:
	case <-g.done:
		return nil, context.Canceled
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = g.to.Scheme, g.to.Host
	return g.by.RoundTrip(r)
}
