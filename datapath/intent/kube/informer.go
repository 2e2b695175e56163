// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// Indexes of the stores.
const (
	byService = "service" // the slices of a service
	byAddress = "address" // the pods with an address
)

func sliceService(obj any) ([]string, error) {
	if s, ok := obj.(*slice); ok && s.service != "" {
		return []string{s.of().String()}, nil
	}
	return nil, nil
}

// podAddresses are those that a pod has for itself. One that has finished keeps its
// addresses in the API, maybe for as long as its job is kept, and has none.
func podAddresses(obj any) (addresses []string, _ error) {
	if p, ok := obj.(*pod); ok && !p.finished {
		for _, a := range p.intent.Addresses {
			addresses = append(addresses, a.String())
		}
	}
	return addresses, nil
}

// informer is the store of one kind of objects, and what keeps it up to date.
type informer struct {
	cache.Indexer
	cache.Controller
	handler cache.ResourceEventHandler
}

// newInformer returns one of the simple kind: it has one handler, which it calls
// itself, so that it has no queue beside its own. Nothing is delivered again
// without a change.
func (s *Source) newInformer(resource string, lw cache.ListerWatcher, example runtime.Object, indexers cache.Indexers) *informer {
	if indexers == nil {
		indexers = cache.Indexers{}
	}
	log := s.clientLogger()
	inf := &informer{handler: &handler{resource, s}}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		Logger:        &log,
		ListerWatcher: &observed{cache.ToListerWatcherWithContext(lw), lw, resource, s.outage},
		ObjectType:    example,
		Handler:       inf.handler,
		Indexers:      indexers,
		Transform:     convert,
	})
	inf.Indexer, inf.Controller = store.(cache.Indexer), controller // with indexers it is one
	return inf
}

// get returns an object of the store.
func get[T kept](inf *informer, key string) (obj T, ok bool) {
	o, exists, err := inf.GetByKey(key)
	if err != nil || !exists {
		return obj, false
	}
	obj, ok = o.(T)
	return obj, ok
}

// slicesOf returns the slices of a service, in no order.
func (s *Source) slicesOf(key string) []*slice {
	objs, err := s.slices.ByIndex(byService, key)
	if err != nil {
		return nil // only where the index does not exist
	}
	out := make([]*slice, 0, len(objs))
	for _, o := range objs {
		if s, ok := o.(*slice); ok {
			out = append(out, s)
		}
	}
	return out
}

// handler notes what is to be looked at again.
type handler struct {
	resource string
	source   *Source
}

func (h *handler) OnAdd(obj any, _ bool) {
	h.warn(nil, obj)
	h.source.touch(obj)
}

func (h *handler) OnUpdate(old, obj any) {
	h.warn(old, obj)
	h.source.touch(old) // a slice may have been another service's
	h.source.touch(obj)
}

func (h *handler) OnDelete(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj // as it was last seen
	}
	h.source.touch(obj)
}

// warn says once what is wrong with an object: it may be listed many times.
func (h *handler) warn(old, obj any) {
	o, ok := obj.(kept)
	if !ok || o.base().problem == nil {
		return
	}
	problem := o.base().problem
	if before, ok := old.(kept); ok && before.base().problem != nil && before.base().problem.Error() == problem.Error() {
		return
	}
	h.source.log.Warn("an object of the API is not understood in full: what is not is left out",
		"resource", h.resource, "namespace", o.base().name.Namespace, "name", o.base().name.Name, "error", problem)
}

// clientLogger takes what client-go has to say. To it each attempt to connect is
// an error; what matters of it the outage says, once.
func (s *Source) clientLogger() logr.Logger {
	return logr.FromSlogHandler(demoted{s.log.Handler()})
}

// demoted makes everything a message of debugging.
type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug && d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
