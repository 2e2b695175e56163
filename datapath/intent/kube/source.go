// SPDX-License-Identifier: Apache-2.0

// Package kube keeps the intent as the API of Kubernetes says.
//
//	API --informers--> convert --> stores --join--> intent.State
//
// An object is converted to what the tables need of it when it arrives, so that
// the stores of the informers are small, and what cannot be understood is known
// at once. What an event says is only that something is to be looked at again:
// the loop of Source.Run reads the stores, and changes that come quickly one
// after the other are one. A change of one slice costs its own service only.
//
// An API server that is away changes nothing: the stores and the tables stay as
// they are, and what was deleted meanwhile is noticed in the list that follows.
package kube

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/waggle-net/waggle/datapath/intent"
)

// Config says what a Source is made of. All is required but where it says so.
type Config struct {
	// NodeName is this node's name in the API.
	NodeName string
	// What is listed and watched. The selectors of this package say which
	// objects; more than that is not harmful, save for Pods, which must be
	// those of this node alone.
	Nodes, Pods, Services, EndpointSlices cache.ListerWatcher
	// Servers is told where the API servers listen, in order, when that is first
	// known and whenever it changes; optional. It is never told that there are
	// none: who reads that could not reach any to learn better. It is called
	// within Run, which goes on when it returns.
	Servers func([]netip.AddrPort)
	// Logger is optional.
	Logger *slog.Logger
}

// Source keeps a State as the API says. Use New.
type Source struct {
	cfg    Config
	log    *slog.Logger
	outage *outage
	dirty  *dirty
	own    *own

	nodes, pods, services, slices *informer

	servers []netip.AddrPort // as last told
}

var _ intent.Source = (*Source)(nil)

// New returns a Source. Nothing is asked of the API before Run.
func New(cfg Config) *Source {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{cfg: cfg, log: log, outage: newOutage(log), dirty: newDirty(), own: newOwn(cfg.NodeName)}
	s.nodes = s.newInformer("nodes", cfg.Nodes, &corev1.Node{}, nil)
	s.pods = s.newInformer("pods", cfg.Pods, &corev1.Pod{}, cache.Indexers{byAddress: podAddresses})
	s.services = s.newInformer("services", cfg.Services, &corev1.Service{}, nil)
	s.slices = s.newInformer("endpointslices", cfg.EndpointSlices, &discoveryv1.EndpointSlice{}, cache.Indexers{byService: sliceService})
	return s
}

// Problem is what keeps the API from being watched, and since when: nil while
// it can be. A caller may ask at any time.
func (s *Source) Problem() error { return s.outage.problem() }

// Holds reports whether a pod of this node that has not finished is shown with an
// address by the API. Before Run has the pods, none is known to. A caller may
// ask at any time.
func (s *Source) Holds(addr netip.Addr) bool {
	keys, err := s.pods.IndexKeys(byAddress, addr.Unmap().String())
	return err == nil && len(keys) > 0
}

// Node waits until the API has this node with the ranges of its pods, and
// returns it as it is now. Run must be running. A caller may ask at any time.
func (s *Source) Node(ctx context.Context) (intent.Node, error) { return s.own.wait(ctx, s.log) }

// Run follows the API until ctx ends, and then returns nil. It marks nothing
// synced before it has everything of all kinds. It is for one call.
func (s *Source) Run(ctx context.Context, state *intent.State) error {
	// The informers are not waited for at the end: one that cannot connect ends
	// only after its pause, of up to a minute. They write to their stores alone.
	quiet := logr.NewContext(ctx, s.clientLogger())
	all := []*informer{s.nodes, s.pods, s.services, s.slices}
	for _, inf := range all {
		go inf.RunWithContext(quiet)
	}
	for _, inf := range all {
		select {
		case <-ctx.Done():
			return nil
		case <-inf.HasSyncedChecker().Done():
		}
	}
	s.apply(state)
	state.Nodes.MarkSynced()
	state.Pods.MarkSynced()
	state.Services.MarkSynced()
	s.log.Info("the intent is what the API says", "nodes", len(s.nodes.ListKeys()), "pods", len(s.pods.ListKeys()),
		"services", len(s.services.ListKeys()), "endpointSlices", len(s.slices.ListKeys()))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.dirty.c:
			s.apply(state)
		}
	}
}
