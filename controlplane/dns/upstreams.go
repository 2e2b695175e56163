// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin/pkg/proxy"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/coredns/coredns/request"

	mdns "github.com/miekg/dns"
)

const (
	maxForwarding  = 1000            // at once, as in kubeadm's configuration
	forwardTimeout = 5 * time.Second // for all nameservers together
	maxFails       = 2               // in a row, before a nameserver is left out
	checkInterval  = 500 * time.Millisecond
)

var (
	errBusy       = errors.New("too many queries are being forwarded: are the node's nameservers slow?")
	errReplaced   = errors.New("the node's nameservers have changed, or cluster DNS is stopping")
	errNoneAnswer = errors.New("no nameserver of the node answers")
)

// upstreams forwards to the node's nameservers, in their order, as the node's own
// resolver does. It is CoreDNS's forward plugin without what it cannot do: other
// nameservers while running, and link-local ones.
type upstreams struct {
	now        atomic.Pointer[upstreamSet]
	forwarding atomic.Int64
	log        *slog.Logger
}

// upstreamSet is the nameservers between two changes.
type upstreamSet struct {
	addrs []netip.AddrPort
	all   []*upstream
	done  <-chan struct{} // closed when another set replaced this one
	end   context.CancelFunc
}

type upstream struct {
	*proxy.Proxy
	probe string      // the name of the query that would come back if this is a loop
	loops atomic.Bool // it did
}

// set replaces the nameservers. Queries under way keep theirs.
func (u *upstreams) set(ctx context.Context, addrs []netip.AddrPort) {
	ctx, cancel := context.WithCancel(ctx)
	next := &upstreamSet{addrs: addrs, done: ctx.Done(), end: cancel}
	for _, a := range addrs {
		up := &upstream{Proxy: proxy.NewProxy("forward", a.String(), transport.DNS), probe: probeName()}
		up.Start(checkInterval)
		next.all = append(next.all, up)
	}
	old := u.now.Swap(next)
	old.stop()
	for _, up := range next.all {
		go probeLoop(ctx, up)
	}
}

func (s *upstreamSet) stop() {
	if s == nil {
		return
	}
	s.end()
	for _, up := range s.all {
		up.Stop()
	}
}

// Name implements plugin.Handler.
func (*upstreams) Name() string { return "forward" }

// ServeDNS implements plugin.Handler.
func (u *upstreams) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	set := u.now.Load()
	if u.isLoop(set, r.Question[0]) {
		return mdns.RcodeRefused, nil
	}
	if !slices.ContainsFunc(set.all, (*upstream).usable) {
		// At once: whoever asks has other things to try.
		if len(set.all) == 0 {
			return mdns.RcodeServerFailure, nil
		}
		return mdns.RcodeServerFailure, errNoneAnswer
	}
	defer u.forwarding.Add(-1)
	if u.forwarding.Add(1) > maxForwarding {
		return mdns.RcodeServerFailure, errBusy
	}
	answer, err := set.forward(ctx, request.Request{W: w, Req: r})
	if err != nil {
		return mdns.RcodeServerFailure, err
	}
	if !(&request.Request{W: w, Req: r}).Match(answer) {
		answer = new(mdns.Msg).SetRcode(r, mdns.RcodeFormatError)
	}
	return mdns.RcodeSuccess, w.WriteMsg(answer)
}

// forward asks one nameserver after the other, and all of them a second time.
func (s *upstreamSet) forward(ctx context.Context, state request.Request) (*mdns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	var last error
	for range 2 {
		for _, up := range s.all {
			if !up.usable() {
				continue
			}
			answer, err := s.exchange(ctx, up, state)
			switch {
			case err == nil:
				return answer, nil
			case ctx.Err() != nil || errors.Is(err, errReplaced):
				return nil, err
			}
			last = err
			up.Healthcheck()
		}
	}
	if last == nil {
		last = errNoneAnswer
	}
	return nil, last
}

func (up *upstream) usable() bool { return !up.Down(maxFails) && !up.loops.Load() }

// exchange asks one nameserver, but does not wait for it beyond ctx or this set: a
// proxy cannot be told to stop.
func (s *upstreamSet) exchange(ctx context.Context, up *upstream, state request.Request) (*mdns.Msg, error) {
	type result struct {
		answer *mdns.Msg
		err    error
	}
	results := make(chan result, 1)
	own := request.Request{W: state.W, Req: state.Req.Copy()} // whose Id the proxy changes
	go func() {
		for {
			answer, _, _, err := up.Connect(ctx, own, proxy.Options{})
			if !errors.Is(err, proxy.ErrCachedClosed) { // an idle connection that the nameserver closed meanwhile
				results <- result{answer, err}
				return
			}
		}
	}()
	select {
	case r := <-results:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return nil, errReplaced
	}
}
