// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
	"github.com/coredns/coredns/plugin/kubernetes/object"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/fall"

	mdns "github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster answers the names of the cluster: CoreDNS's kubernetes plugin, set up by us.
type cluster struct {
	// plugin is nil until CoreDNS has read its configuration.
	plugin atomic.Pointer[kubernetes.Kubernetes]
}

// setupCluster does what the setup of CoreDNS's kubernetes plugin does, without taking
// over klog, and without a start that waits for the API server.
func setupCluster(s *server, c *caddy.Controller) (plugin.Plugin, error) {
	if s.cluster.plugin.Load() == nil { // else another port's block was first
		if err := s.cluster.start(c, s.Kubeconfig); err != nil {
			return nil, err
		}
	}
	return func(next plugin.Handler) plugin.Handler {
		open := *s.cluster.plugin.Load()
		open.Next = next
		closed := open
		closed.Fall = fall.F{}
		return &clusterHandler{open: open, closed: closed, ranges: slices.Concat(s.PodCIDRs, s.ServiceCIDRs)}
	}, nil
}

func (c *cluster) start(controller *caddy.Controller, path string) error {
	controller.Next() // to the directive, as each setup does
	k, err := kubernetes.ParseStanza(controller)
	if err != nil {
		return err
	}
	k.ClientConfig = clientConfig{clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, &clientcmd.ConfigOverrides{})}
	if _, _, err := k.InitKubeCache(context.Background()); err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	c.plugin.Store(k)
	go k.APIConn.Run()
	return nil
}

// stop ends the watches. It may be called whether or not they were started.
func (c *cluster) stop() {
	if k := c.plugin.Load(); k != nil {
		_ = k.APIConn.Stop() // fails only where it was called before
	}
}

// synced says whether every first list has arrived.
func (c *cluster) synced() bool {
	k := c.plugin.Load()
	return k != nil && k.Ready()
}

// isNode says whether the address is one that a node answers DNS on: the endpoints of
// the cluster DNS service are the nodes.
func (c *cluster) isNode(a netip.Addr) bool {
	k := c.plugin.Load()
	if k == nil || !a.IsValid() {
		return false
	}
	return slices.ContainsFunc(k.APIConn.EpIndexReverse(a.String()), func(e *object.Endpoints) bool {
		return e.Index == object.EndpointsKey("kube-dns", "kube-system")
	})
}

// clusterHandler is the plugin in a chain.
type clusterHandler struct {
	open, closed kubernetes.Kubernetes
	ranges       []netip.Prefix // of pods and services
}

// Name implements plugin.Handler.
func (*clusterHandler) Name() string { return "kubernetes" }

// ServeDNS implements plugin.Handler. A name for an address is asked of the world when
// the cluster has none, unless the address is the cluster's own: nobody else knows it.
func (h *clusterHandler) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	a, err := netip.ParseAddr(dnsutil.ExtractAddressFromReverse(mdns.CanonicalName(r.Question[0].Name)))
	if err == nil && slices.ContainsFunc(h.ranges, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return h.closed.ServeDNS(ctx, w, r)
	}
	return h.open.ServeDNS(ctx, w, r)
}

// kubeconfig is a kubeconfig as client-go reads it, with file names left as such, so
// that certificates that were renewed are read again.
type kubeconfig = clientcmd.ClientConfig

// clientConfig asks for the compact encoding, which a kubeconfig cannot.
type clientConfig struct{ kubeconfig }

// ClientConfig implements clientcmd.ClientConfig.
func (c clientConfig) ClientConfig() (*rest.Config, error) {
	config, err := c.kubeconfig.ClientConfig()
	if err != nil {
		return nil, err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.UserAgent = "waggle-kube/dns"
	return config, nil
}
