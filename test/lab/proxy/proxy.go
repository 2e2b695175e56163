// SPDX-License-Identifier: Apache-2.0

// Package proxy is a lab's way out, for who wants one: an HTTP proxy on the machine's
// end of the lab's link that only makes tunnels (CONNECT, RFC 9110 section 9.3.6), only
// for clients in the lab, and only to web servers outside of lab and machine.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// Port is where the proxy listens: that of squid, as people know it.
const Port = 3128

const (
	defaultMaxTunnels  = 256
	defaultIdleTimeout = 2 * time.Minute
	dialTimeout        = 30 * time.Second
	headerTimeout      = 10 * time.Second
)

// ports are those of web servers, and of registries with them.
var ports = []uint16{443, 80}

// Proxy decides who gets where. Clients is required.
type Proxy struct {
	// Clients are the ranges of who may ask. No tunnel leads into them.
	Clients []netip.Prefix
	// MaxTunnels is how many there are at once. Default: 256.
	MaxTunnels int
	// IdleTimeout ends a tunnel through which nothing goes. Default: two minutes.
	IdleTimeout time.Duration
	// Log is told of each tunnel. Default: nobody.
	Log *slog.Logger

	slots chan struct{}
}

// Serve answers on the listeners until ctx ends, and ends the tunnels with it.
func (p *Proxy) Serve(ctx context.Context, listeners ...net.Listener) error {
	if p.MaxTunnels == 0 {
		p.MaxTunnels = defaultMaxTunnels
	}
	if p.IdleTimeout == 0 {
		p.IdleTimeout = defaultIdleTimeout
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	p.slots = make(chan struct{}, p.MaxTunnels)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
	}
	for _, l := range listeners {
		go func() { cancel(server.Serve(l)) }()
	}
	<-ctx.Done()
	server.Close()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve proxy: %w", err)
	}
	return nil
}

// ServeHTTP makes the tunnel that a request asks for.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, err error) {
		p.Log.Info("refused", "client", r.RemoteAddr, "target", r.Host, "err", err)
		http.Error(w, "waggle-lab proxy: "+err.Error(), status)
	}
	if client, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !within(client.Addr(), p.Clients) {
		refuse(http.StatusForbidden, errors.New("only the lab may ask"))
		return
	}
	if r.Method != http.MethodConnect {
		refuse(http.StatusMethodNotAllowed, fmt.Errorf("%s: only CONNECT is served, so only https", r.Method))
		return
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		refuse(http.StatusServiceUnavailable, fmt.Errorf("there are %d tunnels already", p.MaxTunnels))
		return
	}
	server, err := p.dial(r.Context(), r.Host)
	var forbidden *forbiddenError
	switch {
	case errors.As(err, &forbidden):
		refuse(http.StatusForbidden, err)
		return
	case err != nil:
		refuse(http.StatusBadGateway, err)
		return
	}
	defer server.Close()
	client, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(http.StatusInternalServerError, err)
		return
	}
	defer client.Close()
	// The server's limits were for the header.
	if err := client.SetDeadline(time.Time{}); err != nil {
		return
	}
	if _, err := client.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return
	}
	p.Log.Info("tunnel", "client", r.RemoteAddr, "target", r.Host, "server", server.RemoteAddr().String())
	// The server's own reader ends the request's context when a client has said all.
	sent := io.MultiReader(io.LimitReader(early, int64(early.Reader.Buffered())), client)
	p.tunnel(r.Context(), client, sent, server)
}

// within is whether one of the ranges has the address.
func within(addr netip.Addr, ranges []netip.Prefix) bool {
	addr = addr.Unmap()
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}
