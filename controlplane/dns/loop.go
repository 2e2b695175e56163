// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"crypto/rand"
	"time"

	mdns "github.com/miekg/dns"
)

// A nameserver that forwards to cluster DNS makes a loop in which one query becomes
// thousands. What the addresses do not show, a query does: one for a random name comes
// back, and then this nameserver is left out. CoreDNS's loop plugin asks the same, but
// ends the process, and with it the kubelet.

// probeInterval is how often a nameserver is asked that has not answered yet.
const probeInterval = 10 * time.Second

// probeName is a name that nobody else asks for: two labels of a top level that does
// not exist, which every resolver forwards.
func probeName() string { return mdns.CanonicalName(rand.Text() + "." + rand.Text() + ".") }

func probeQuestion(name string) mdns.Question {
	return mdns.Question{Name: name, Qtype: mdns.TypeHINFO, Qclass: mdns.ClassINET}
}

// probeLoop asks until there is an answer, since a nameserver may be away at first.
func probeLoop(ctx context.Context, up *upstream) {
	client := mdns.Client{Timeout: 2 * time.Second}
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		query := new(mdns.Msg).SetQuestion(up.probe, mdns.TypeHINFO)
		if _, _, err := client.ExchangeContext(ctx, query, up.Addr()); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// isLoop says whether a query is a probe of ours that has come back.
func (u *upstreams) isLoop(set *upstreamSet, q mdns.Question) bool {
	if q.Qtype != mdns.TypeHINFO {
		return false
	}
	q.Name = mdns.CanonicalName(q.Name) // resolvers mix the case
	for _, up := range set.all {
		if q != probeQuestion(up.probe) {
			continue
		}
		if !up.loops.Swap(true) {
			u.log.Warn("a nameserver of this node forwards to cluster DNS, which would forward to it again: it is left out; give cluster DNS other nameservers, or have that one not forward here",
				"nameserver", up.Addr())
		}
		return true
	}
	return false
}
