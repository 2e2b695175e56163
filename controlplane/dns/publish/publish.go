// SPDX-License-Identifier: Apache-2.0

// Package publish keeps the cluster DNS service: kube-system/kube-dns, and an
// EndpointSlice for each node and family, since every node answers DNS itself.
//
// The service has no selector: there are no pods. A service of this name with a
// selector is somebody's own DNS, and is left alone, without endpoints of ours.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// Where the service is, and who keeps it.
const (
	Namespace = "kube-system"
	Name      = "kube-dns"
	Manager   = "waggle-kube"
)

// Config is what there is to publish.
type Config struct {
	// Client may read nodes, and write services and endpoint slices in kube-system. Required.
	Client kubernetes.Interface
	// ServiceIPs are the addresses of the service, one for each family of the
	// cluster's service CIDRs, in their order. Required.
	ServiceIPs []netip.Addr
	// Port is where the nodes answer DNS, by UDP and TCP. Required.
	Port uint16
	// Log is optional: slog's default.
	Log *slog.Logger
}

// The time between tries after a failure.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Run publishes until ctx ends, and then returns nil.
func Run(ctx context.Context, c Config) error {
	p, err := newPublisher(c)
	if err != nil {
		return err
	}
	if err := p.watch(ctx); err != nil {
		return err
	}
	retry, wait := time.NewTimer(0), firstRetry
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-retry.C:
		}
		if err := p.reconcile(ctx); err == nil || ctx.Err() != nil {
			wait = firstRetry
		} else {
			p.Log.Warn("cluster DNS service is not as it should be: trying again", "in", wait, "error", err)
			retry.Reset(wait)
			wait = min(2*wait, lastRetry)
		}
	}
}

// publisher is one Run.
type publisher struct {
	Config
	changed chan struct{} // something is to be looked at

	services  corelisters.ServiceLister
	endpoints discoverylisters.EndpointSliceLister
	nodes     corelisters.NodeLister

	said string // the last word about somebody else's service
}

func newPublisher(c Config) (*publisher, error) {
	switch {
	case c.Client == nil:
		return nil, errors.New("publish cluster DNS: there is no client")
	case slices.ContainsFunc(c.ServiceIPs, func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() }):
		return nil, fmt.Errorf("publish cluster DNS: %v are not addresses of a service: write them as in 10.96.0.10 or fd00:10:96::a", c.ServiceIPs)
	case c.Port == 0:
		return nil, errors.New("publish cluster DNS: the port that nodes answer on is missing")
	case len(c.ServiceIPs) == 0 || len(c.ServiceIPs) > 2:
		return nil, fmt.Errorf("publish cluster DNS: %d addresses of the service: one or two are possible, one a family", len(c.ServiceIPs))
	case len(c.ServiceIPs) == 2 && c.ServiceIPs[0].Is4() == c.ServiceIPs[1].Is4():
		return nil, fmt.Errorf("publish cluster DNS: %s and %s are of the same family: give one for each", c.ServiceIPs[0], c.ServiceIPs[1])
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &publisher{Config: c, changed: make(chan struct{}, 1)}, nil
}

// watch starts the informers, and returns when they have what there is.
func (p *publisher) watch(ctx context.Context) error {
	all := informers.NewSharedInformerFactory(p.Client, 0)
	system := informers.NewSharedInformerFactoryWithOptions(p.Client, 0, informers.WithNamespace(Namespace))
	nodes := all.Core().V1().Nodes()
	services, endpoints := system.Core().V1().Services(), system.Discovery().V1().EndpointSlices()
	p.nodes, p.services, p.endpoints = nodes.Lister(), services.Lister(), endpoints.Lister()
	for _, w := range []struct {
		informer cache.SharedIndexInformer
		strip    cache.TransformFunc
	}{
		{nodes.Informer(), stripNode}, {services.Informer(), stripManagedFields}, {endpoints.Informer(), stripManagedFields},
	} {
		if err := w.informer.SetTransform(w.strip); err != nil {
			return fmt.Errorf("watch for cluster DNS: %w", err)
		}
		if _, err := w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { p.trigger() },
			UpdateFunc: func(old, now any) {
				if matters(old, now) {
					p.trigger()
				}
			},
			DeleteFunc: func(any) { p.trigger() },
		}); err != nil {
			return fmt.Errorf("watch for cluster DNS: %w", err)
		}
	}
	for _, f := range []informers.SharedInformerFactory{all, system} {
		f.StartWithContext(ctx)
		if err := f.WaitForCacheSyncWithContext(ctx).Err; err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch for cluster DNS: %w", err)
		}
	}
	return nil
}

func (p *publisher) trigger() {
	select {
	case p.changed <- struct{}{}:
	default: // there is one already
	}
}

// matters says whether there can be something to do. Every node writes its status once
// in some minutes, nearly always without a change to what stripNode keeps.
func matters(old, now any) bool {
	o, ok1 := old.(*corev1.Node)
	n, ok2 := now.(*corev1.Node)
	return !ok1 || !ok2 || o.UID != n.UID || !equality.Semantic.DeepEqual(o.Labels, n.Labels) || !equality.Semantic.DeepEqual(o.Status, n.Status)
}

// stripNode keeps of a node what is published: a node is some kilobytes, and changes
// often in what does not matter here.
func stripNode(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil // what is deleted may come in a box
	}
	kept := &corev1.Node{}
	kept.Name, kept.UID, kept.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
		kept.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	kept.Status.Addresses = n.Status.Addresses
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			kept.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return kept, nil
}

func stripManagedFields(o any) (any, error) {
	switch o := o.(type) {
	case *corev1.Service:
		o.ManagedFields = nil
	case *discoveryv1.EndpointSlice:
		o.ManagedFields = nil
	}
	return o, nil
}
