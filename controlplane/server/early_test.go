// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// fetch is a hook that asks the API server for its version.
func fetch(c genericapiserver.PostStartHookContext) error {
	client, err := discovery.NewDiscoveryClientForConfig(c.LoopbackClientConfig)
	if err != nil {
		return err
	}
	return client.RESTClient().Get().AbsPath("/version").Do(c).Error()
}

func startFetch(ctx context.Context, hook genericapiserver.PostStartHookFunc) *earlyHook {
	h := newEarlyHook(ctx, "fetch", hook)
	h.start(ctx)
	return h
}

// apiServerFor is one that answers to the holder of a token, and notes what it was asked.
func apiServerFor(t *testing.T) (loopback *rest.Config, asked chan string) {
	t.Helper()
	asked = make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization") + " " + r.URL.Path
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	loopback = (&gate{}).config()
	loopback.Host, loopback.Transport, loopback.BearerToken = server.URL, nil, "secret"
	return loopback, asked
}

// A request that was made early arrives when the API server serves, with the rights of
// its loopback client.
func TestEarly(t *testing.T) {
	h := startFetch(t.Context(), fetch)
	loopback, asked := apiServerFor(t)
	select {
	case err := <-h.ended:
		t.Fatalf("it ended before anybody served: %v", err)
	default:
	}
	if err := h.finish(genericapiserver.PostStartHookContext{LoopbackClientConfig: loopback, Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "Bearer secret /version" || len(asked) != 0 {
		t.Errorf("asked for %q, and %d times more", got, len(asked))
	}
}

// What failed early is done again, by the API server's own client.
func TestEarlyFails(t *testing.T) {
	tries := 0
	h := startFetch(t.Context(), func(c genericapiserver.PostStartHookContext) error {
		if tries++; tries == 1 {
			return errors.New("timed out")
		}
		return fetch(c)
	})
	loopback, asked := apiServerFor(t)
	if err := h.finish(genericapiserver.PostStartHookContext{LoopbackClientConfig: loopback, Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "Bearer secret /version" || tries != 2 {
		t.Errorf("asked for %q in %d tries", got, tries)
	}
}

// A start that is given up leaves nobody waiting.
func TestEarlyGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := startFetch(ctx, fetch)
	cancel()
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// They are the hooks that the API server has, by name.
func TestEarlyNames(t *testing.T) {
	hooks, err := earlyHooks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range hooks {
		names = append(names, h.name)
	}
	if len(names) != 2 || names[0] != "rbac/bootstrap-roles" || names[1] != "scheduling/bootstrap-system-priority-classes" {
		t.Errorf("%q", names)
	}
}
