// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/watchlist"
)

// outage is a time in which a call to the API fails again and again.
type outage struct {
	log *slog.Logger

	mu      sync.Mutex
	since   time.Time
	failing map[call]error // the last error of each call that did not succeed since
}

type call struct{ verb, resource string }

func newOutage(log *slog.Logger) *outage { return &outage{log: log, failing: map[call]error{}} }

func (o *outage) problem() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failing) == 0 {
		return nil
	}
	calls := slices.SortedFunc(maps.Keys(o.failing), func(a, b call) int {
		return slices.Compare([]string{a.resource, a.verb}, []string{b.resource, b.verb})
	})
	c := calls[0] // mostly all have the same
	return fmt.Errorf("%s %s of the API: %w (since %s)", c.verb, c.resource, o.failing[c], o.since.UTC().Format(time.RFC3339))
}

// failed takes note of an error. What is tried again is one outage: only its
// start is logged.
func (o *outage) failed(c call, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failing) == 0 {
		o.since = time.Now()
		o.log.Warn("the API cannot be watched: what is known stays in force", "verb", c.verb, "resource", c.resource, "error", err)
	}
	o.failing[c] = err
}

func (o *outage) succeeded(calls ...call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failing) == 0 {
		return
	}
	for _, c := range calls {
		delete(o.failing, c)
	}
	if len(o.failing) == 0 {
		o.log.Info("the API is watched again", "after", time.Since(o.since).Round(time.Millisecond))
	}
}

// observed lists and watches, and says how it went. The informer's own handler of
// errors would not do: a watch that is refused it is not told of, and no success.
type observed struct {
	cache.ListerWatcherWithContext
	given    cache.ListerWatcher
	resource string
	outage   *outage
}

// List does what ListWithContext does.
func (o *observed) List(options metav1.ListOptions) (runtime.Object, error) {
	return o.ListWithContext(context.Background(), options)
}

// Watch does what WatchWithContext does.
func (o *observed) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return o.WatchWithContext(context.Background(), options)
}

// ListWithContext lists. That it works does not mean that watching does.
func (o *observed) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	list, err := o.ListerWatcherWithContext.ListWithContext(ctx, options)
	o.note(ctx, "list", options, err)
	return list, err
}

// WatchWithContext watches.
func (o *observed) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	w, err := o.ListerWatcherWithContext.WatchWithContext(ctx, options)
	o.note(ctx, "watch", options, err)
	return w, err
}

// IsWatchListSemanticsUnSupported is how a client says that it cannot list by
// watching, and must be asked of what is wrapped.
func (o *observed) IsWatchListSemanticsUnSupported() bool {
	return watchlist.DoesClientNotSupportWatchListSemantics(o.given)
}

func (o *observed) note(ctx context.Context, verb string, options metav1.ListOptions, err error) {
	switch {
	case err == nil && verb == "watch": // a list that failed is not needed any more
		o.outage.succeeded(call{verb, o.resource}, call{"list", o.resource})
	case err == nil:
		o.outage.succeeded(call{verb, o.resource})
	case ctx.Err() != nil, answered(err, options):
	default:
		o.outage.failed(call{verb, o.resource}, err)
	}
}

// answered says that an error is part of the protocol: the version is too old,
// or the server does not know yet of one that another one had, or it cannot list
// by watching. The informer then asks in another way, at once.
func answered(err error, options metav1.ListOptions) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) ||
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) ||
		options.SendInitialEvents != nil && apierrors.IsInvalid(err)
}
