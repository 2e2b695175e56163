// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultDomain       = "cluster.local"
	defaultResolvConf   = "/etc/resolv.conf"
	defaultResolvedConf = "/run/systemd/resolve/resolv.conf"
)

// complete fills in what is optional, and checks the rest.
func (c *Config) complete() error {
	if c.Domain == "" {
		c.Domain = defaultDomain
	}
	if c.ResolvConf == "" {
		c.ResolvConf = defaultResolvConf
	}
	if c.resolvedConf == "" {
		c.resolvedConf = defaultResolvedConf
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Synced == nil {
		c.Synced = func() {}
	}
	// The domain and the addresses are written into CoreDNS's configuration: nothing
	// but names and addresses gets there.
	if problems := validation.IsDNS1123Subdomain(c.Domain); len(problems) > 0 {
		return fmt.Errorf("read cluster DNS domain %q: %s", c.Domain, strings.Join(problems, "; "))
	}
	if len(c.PodCIDRs) == 0 || len(c.ServiceCIDRs) == 0 {
		return errors.New("start cluster DNS: it needs the ranges of pods and of services: set both")
	}
	if c.Kubeconfig == "" {
		return errors.New("start cluster DNS: it needs a kubeconfig to watch services with: set its path")
	}
	return c.checkListen()
}

func (c *Config) checkListen() error {
	if len(c.Listen) == 0 {
		return errors.New("start cluster DNS: it has no address to answer on: set one for each family of the node")
	}
	seen := map[netip.AddrPort]bool{}
	for i, l := range c.Listen {
		l = netip.AddrPortFrom(l.Addr().Unmap(), l.Port())
		c.Listen[i] = l
		switch {
		case !l.IsValid() || l.Port() == 0 || l.Addr().IsUnspecified() || l.Addr().IsMulticast() || l.Addr().Zone() != "":
			return fmt.Errorf("listen for DNS on %s: not an address of a node with a port: name one, as in 192.0.2.1:5353", l)
		case seen[l]:
			return fmt.Errorf("listen for DNS on %s: the address is listed twice: remove one", l)
		}
		seen[l] = true
	}
	return nil
}

// self names what of ours an address is, if it is.
func (c *Config) self(a netip.AddrPort) string {
	if slices.Contains(c.Listen, a) {
		return "this cluster DNS"
	}
	for _, p := range c.ServiceCIDRs {
		if p.Contains(a.Addr()) {
			return fmt.Sprintf("an address of a service (%s)", p)
		}
	}
	return ""
}

// probe says whether an address is free. CoreDNS listens with SO_REUSEPORT, so that
// two of them would share the queries without anybody noticing.
func probe(ctx context.Context, a netip.AddrPort) error {
	var config net.ListenConfig
	packets, err := config.ListenPacket(ctx, "udp", a.String())
	if err != nil {
		return explainListen("UDP", a, err)
	}
	packets.Close()
	streams, err := config.Listen(ctx, "tcp", a.String())
	if err != nil {
		return explainListen("TCP", a, err)
	}
	streams.Close()
	return nil
}

func explainListen(protocol string, a netip.AddrPort, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = fmt.Sprintf(": another program has the port: `ss -lntup 'sport = :%d'` shows it; stop it, or give cluster DNS another port", a.Port())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = ": no device of this node has the address: is the network up, and is the node's address the right one?"
	case errors.Is(err, syscall.EACCES):
		remedy = ": ports below 1024 need root or CAP_NET_BIND_SERVICE"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno // net's text has the address a second time
	}
	return fmt.Errorf("listen for DNS on %s by %s: %w%s", a, protocol, err, remedy)
}
