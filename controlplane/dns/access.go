// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	mdns "github.com/miekg/dns"
)

// access lets the cluster ask, and nobody else: on a node's own address this would be
// an open resolver. Others get no answer at all, since an answer, even a refusal,
// serves whoever forges the sender's address.
type access struct {
	next plugin.Handler
	may  func(netip.Addr) bool
}

func setupAccess(s *server, c *caddy.Controller) (plugin.Plugin, error) {
	// The server itself answers some malformed queries before any plugin sees them.
	dnsserver.GetConfig(c).UDPDecorateWriterFunc = func(*dnsserver.Server) mdns.DecorateWriter {
		return func(w mdns.Writer) mdns.Writer { return &guardedWriter{Writer: w, may: s.mayAsk} }
	}
	return func(next plugin.Handler) plugin.Handler { return &access{next: next, may: s.mayAsk} }, nil
}

// mayAsk says whether an address is of the cluster.
func (s *server) mayAsk(a netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(a) }
	return a.IsLoopback() ||
		slices.ContainsFunc(s.PodCIDRs, contains) ||
		slices.ContainsFunc(s.Listen, func(l netip.AddrPort) bool { return l.Addr() == a }) ||
		slices.Contains(s.NodeAddrs, a) ||
		s.cluster.isNode(a)
}

// Name implements plugin.Handler.
func (*access) Name() string { return "waggle_access" }

// ServeDNS implements plugin.Handler.
func (h *access) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	if !h.may(addrOf(w.RemoteAddr())) {
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
			w.Close()
		}
		return mdns.RcodeSuccess, nil // which says that an answer was written
	}
	return plugin.NextOrFailure(h.Name(), h.next, ctx, w, r)
}

// guardedWriter writes only to those who may ask.
type guardedWriter struct {
	mdns.Writer
	may func(netip.Addr) bool
}

func (w *guardedWriter) Write(b []byte) (int, error) {
	if to, ok := w.Writer.(mdns.ResponseWriter); !ok || !w.may(addrOf(to.RemoteAddr())) {
		return len(b), nil
	}
	return w.Writer.Write(b)
}

// addrOf is the address alone: without its zone, since ranges have none.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
