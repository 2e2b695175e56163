// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"        // each says to CoreDNS that it is there
	_ "github.com/coredns/coredns/plugin/cache"       // likewise
	_ "github.com/coredns/coredns/plugin/errors"      // likewise
	_ "github.com/coredns/coredns/plugin/loadbalance" // likewise
	"github.com/coredns/coredns/plugin/metrics"
)

// directives are the plugins in the order in which a query passes them. Those with
// our name are of this package: CoreDNS's own kubernetes plugin takes over the log of
// every Kubernetes component in the process when it is set up, its forward plugin
// drops the zone of an IPv6 address and reads resolv.conf once, its acl plugin knows
// no nodes that join later, and its loop plugin ends the process.
var directives = []string{
	"bind", "waggle_metrics", "waggle_access", "errors", "loadbalance", "cache", "waggle_cluster", "waggle_upstreams",
}

func init() {
	register("waggle_metrics", func(*server, *caddy.Controller) (plugin.Plugin, error) {
		return func(next plugin.Handler) plugin.Handler {
			m := metrics.New("") // counts; nobody listens
			m.Next = next
			return m
		}, nil
	})
	register("waggle_access", setupAccess)
	register("waggle_cluster", setupCluster)
	register("waggle_upstreams", func(s *server, _ *caddy.Controller) (plugin.Plugin, error) {
		return func(plugin.Handler) plugin.Handler { return &s.upstreams }, nil
	})
}

// register tells CoreDNS of a plugin that is set up for the running server.
func register(name string, setup func(*server, *caddy.Controller) (plugin.Plugin, error)) {
	plugin.Register(name, func(c *caddy.Controller) error {
		s := running.Load()
		if s == nil {
			return errors.New("this plugin serves only waggle's cluster DNS")
		}
		p, err := setup(s, c)
		if err != nil {
			return err
		}
		dnsserver.GetConfig(c).AddPlugin(p)
		return nil
	})
}

// corefile is CoreDNS's configuration, with a block for each port. Its settings are
// those of kubeadm, as users expect them: TTLs of 30 s, pod names without a look-up
// of the pod, a cache for what is not the cluster's own.
func corefile(c Config) string {
	ports := map[uint16][]netip.Addr{}
	for _, l := range c.Listen {
		ports[l.Port()] = append(ports[l.Port()], l.Addr())
	}
	var b strings.Builder
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		fmt.Fprintf(&b, ".:%d {\n\tbind", port)
		for _, a := range ports[port] {
			fmt.Fprintf(&b, " %s", a)
		}
		fmt.Fprintf(&b, `
	waggle_metrics
	waggle_access
	errors {
		consolidate 1m ".*" warning show_first
	}
	loadbalance
	cache 30 {
		disable success %[1]s
		disable denial %[1]s
	}
	waggle_cluster %[1]s in-addr.arpa ip6.arpa {
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
	}
	waggle_upstreams
}
`, c.Domain)
	}
	return b.String()
}
