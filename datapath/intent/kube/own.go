// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/waggle-net/waggle/datapath/intent"
)

// own is this node as the API has it, for those who cannot start without.
type own struct {
	name string
	done chan struct{} // closed when the node has its ranges

	mu   sync.Mutex
	node *intent.Node // as last seen, nil if never
}

func newOwn(name string) *own { return &own{name: name, done: make(chan struct{})} }

// see takes note of a node, if it is this one. One that is deleted, or that
// loses its ranges, stays as it was: they are in use.
func (o *own) see(n intent.Node) {
	if n.Name != o.name {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch had := o.node != nil && len(o.node.PodCIDRs) > 0; {
	case had && len(n.PodCIDRs) == 0:
		return
	case !had && len(n.PodCIDRs) > 0:
		defer close(o.done)
	}
	o.node = &n
}

func (o *own) wait(ctx context.Context, log *slog.Logger) (intent.Node, error) {
	select {
	case <-o.done:
	default:
		log.Info("waiting for this node in the API, with the ranges of its pods", "node", o.name)
	}
	select {
	case <-o.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		return *o.node, nil
	case <-ctx.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.node == nil {
		return intent.Node{}, fmt.Errorf("wait for node %s in the API: %w: is its kubelet running, and is that its name there?", o.name, ctx.Err())
	}
	return intent.Node{}, fmt.Errorf("wait for spec.podCIDRs of node %s: %w: start kube-controller-manager with --allocate-node-cidrs, or give podCIDRs in the configuration of waggled", o.name, ctx.Err())
}
