// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
)

// forbiddenError is about a target that nobody may have a tunnel to.
type forbiddenError struct{ target, why string }

func (e *forbiddenError) Error() string {
	return fmt.Sprintf("connect to %s: %s", e.target, e.why)
}

// dial connects to a target, "host:port". The address is judged when it is connected
// to: what a name meant a moment ago says nothing.
func (p *Proxy) dial(ctx context.Context, target string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, &forbiddenError{target, "want HOST:PORT"}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || !slices.Contains(ports, uint16(n)) {
		return nil, &forbiddenError{target, fmt.Sprintf("only ports %d are served", ports)}
	}
	dialer := net.Dialer{
		Timeout: dialTimeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			addr, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if why := p.forbids(addr.Addr()); why != "" {
				return &forbiddenError{address, why}
			}
			return nil
		},
	}
	return dialer.DialContext(ctx, "tcp", target)
}

// forbids says why an address is no target, or nothing.
func (p *Proxy) forbids(addr netip.Addr) string {
	addr = addr.Unmap()
	switch {
	case addr.IsLoopback(), addr.IsUnspecified():
		return "it is the machine itself"
	case addr.IsLinkLocalUnicast(), addr.IsMulticast():
		return "link-local and multicast addresses are not served"
	case within(addr, p.Clients):
		return "it is in the lab: ask it without the proxy"
	case isOwn(addr):
		return "it is the machine itself"
	}
	return ""
}

// isOwn is whether the machine has the address now.
func isOwn(addr netip.Addr) bool {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true // who cannot tell, does not let in
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == addr
	})
}
