// SPDX-License-Identifier: Apache-2.0

// Package kubeapi is the daemon's way to the API server. It does not lead through
// the service that the daemon itself programs, and so works from cold, and while
// some of the API servers are away:
//
//	kubeconfig -> credentials, CA ------------v
//	configured servers ----+-> servers -> failover -> HTTP/2 -> the server that answers
//	cache file --> learned +                  |
//	     ^            ^                       +-> Servers, Problem (status)
//	     +-- Learn ---+-- EndpointSlices of default/kubernetes
//
// Requests stay with the server that answers, and move on when it does not. What
// is learned only says where to ask: the CA of the kubeconfig decides whom to
// believe.
package kubeapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/flowcontrol"
)

// Limits of all requests but watches together. A daemon lists a handful of
// resources at its start and after that only watches.
const (
	qps   = 20
	burst = 40
)

// Config says who we are, and where API servers are.
type Config struct {
	// Kubeconfig is the path of the file whose current context has our credentials
	// and the cluster's CA. Required. Files that it refers to are read again while
	// running.
	Kubeconfig string
	// Servers are URLs of API servers, tried in their order, in place of the
	// kubeconfig's. None stands for that one.
	Servers []string
	// CacheFile is where learned servers are remembered. Empty stands for nowhere:
	// the next start then knows the configured servers only.
	CacheFile string
	// UserAgent names us in the API server's logs. Empty stands for client-go's.
	UserAgent string
	// Logger is required.
	Logger *slog.Logger
}

// Client reaches the API server. Use New. It needs no end: its connections close
// when they are idle.
type Client struct {
	kubeconfig string
	transport  http.RoundTripper // with our credentials, over failover
	limiter    flowcontrol.RateLimiter
	resources  *resources
	servers    *servers
	cache      *cacheFile
}

// New reads the kubeconfig and the cache. It asks no server for anything.
func New(cfg Config) (*Client, error) {
	identity, configured, err := load(cfg.Kubeconfig, cfg.Servers)
	if err != nil {
		return nil, err
	}
	c := &Client{
		kubeconfig: cfg.Kubeconfig,
		limiter:    flowcontrol.NewTokenBucketRateLimiter(qps, burst),
		servers:    newServers(configured, cfg.Logger),
		cache:      newCacheFile(cfg.CacheFile, cfg.Logger),
	}
	c.servers.replace(c.cache.load(), FromCache)
	identity.UserAgent = cfg.UserAgent
	if identity.UserAgent == "" {
		identity.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	identity.Dial = dialer.DialContext
	servers := c.servers // not c: client-go's watch of the certificate holds this for as long as c lives
	identity.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return &failover{base: base, servers: servers}
	})
	refreshToken(identity)
	if c.transport, err = rest.TransportFor(identity); err != nil {
		return nil, fmt.Errorf("use credentials of kubeconfig %s: %w", cfg.Kubeconfig, err)
	}
	if c.resources, err = newResources(c.REST()); err != nil {
		return nil, err
	}
	return c, nil
}

// refreshToken has a token file read again as soon as a server does not accept the
// token. By itself client-go reads it once a minute.
func refreshToken(identity *rest.Config) {
	if identity.BearerTokenFile == "" {
		return
	}
	source := transport.NewCachedFileTokenSource(identity.BearerTokenFile)
	identity.BearerToken, identity.BearerTokenFile = "", ""
	identity.Wrap(transport.ResettableTokenSourceWrapTransport(source))
}

// anyServer is where requests go before failover sends them to a server. Nobody
// looks the name up; it is seen in errors of net/http.
const anyServer = "https://kubernetes"

// REST returns a configuration that is the caller's to change, all but its
// Transport: that one has our credentials and finds the server. Whoever uses it
// shares our connections and our rate limit.
func (c *Client) REST() *rest.Config {
	return &rest.Config{
		Host:          anyServer,
		ContentConfig: protobuf,
		Transport:     c.transport,
		RateLimiter:   c.limiter,
		// Else client-go prints what the server warns of past our log; of what we ask
		// for, nothing is deprecated.
		WarningHandler: rest.NoWarnings{},
	}
}

// Learn takes the endpoints of the service default/kubernetes: they are tried
// after the configured servers, in place of those learned before, and
// remembered. An empty list is ignored, so that never all are forgotten; so is
// what cannot be an API server.
func (c *Client) Learn(endpoints []netip.AddrPort) {
	learned := normalize(endpoints)
	if len(learned) == 0 {
		return
	}
	c.servers.replace(learned, FromLearned)
	c.cache.store(learned)
}

// Servers returns the known API servers in the order in which they are tried,
// which starts at the one in use.
func (c *Client) Servers() []Server { return c.servers.list() }

// maxLearned bounds what we remember, and try, of a cluster's API servers.
const maxLearned = 64

// normalize sorts, so that an order that says nothing is not news.
func normalize(endpoints []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range endpoints {
		e = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
		if usable(e) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), maxLearned)]
}

func usable(e netip.AddrPort) bool {
	a := e.Addr()
	return a.IsValid() && e.Port() != 0 && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}
