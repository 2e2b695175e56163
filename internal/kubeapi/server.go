// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Source says how we came to know a server.
type Source string

// The sources, in the order in which their servers are tried.
const (
	FromConfig     Source = "config"
	FromKubeconfig Source = "kubeconfig"
	FromLearned    Source = "learned" // from the API, since the start
	FromCache      Source = "cached"  // from the API, before the start
)

// Server is what is known of one API server.
type Server struct {
	URL    string
	Source Source
	// InUse says that requests go there first.
	InUse bool
	// Err is why the last request had no answer from it; nil if it had, or if there
	// was none yet.
	Err error
}

// server is where requests can be sent. The list it is in guards what changes.
type server struct {
	host   string   // as in a URL
	prefix *url.URL // the path below which the API is; mostly empty
	key    string   // the same for all ways to write the server

	source Source
	err    error
}

func (s *server) String() string {
	u := *s.prefix
	u.Scheme, u.Host = "https", s.host
	return u.String()
}

func learnedServer(e netip.AddrPort, source Source) *server {
	return &server{host: e.String(), prefix: &url.URL{}, key: e.String(), source: source}
}

const useURL = "use https://HOST:PORT"

// parseServer reads the URL of an API server. Errors do not repeat it, as it may
// hold a password.
func parseServer(text string, source Source) (*server, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme == "" || u.Host == "":
		return nil, errors.New("not a URL: " + useURL)
	case u.Scheme == "http":
		return nil, errors.New("plain http shows our credentials to the network: " + useURL)
	case u.Scheme != "https":
		return nil, fmt.Errorf("scheme %q is none of API servers: %s", u.Scheme, useURL)
	case u.User != nil:
		return nil, errors.New("credentials in a URL are not used: put them into the kubeconfig, and " + useURL)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("a query or fragment is not used: " + useURL)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if host == "" {
		return nil, errors.New("no host: " + useURL)
	}
	if port == "" {
		port = "443"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("port %s is not between 1 and 65535: %s", port, useURL)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	}
	prefix := u.JoinPath() // without . and ..
	prefix = &url.URL{Path: strings.TrimRight(prefix.Path, "/"), RawPath: strings.TrimRight(prefix.RawPath, "/")}
	key := net.JoinHostPort(host, port)
	return &server{
		host:   strings.ToLower(u.Host),
		prefix: prefix,
		key:    key + prefix.EscapedPath(),
		source: source,
	}, nil
}

// direct returns a copy of the request that goes to the server.
func (s *server) direct(req *http.Request) *http.Request {
	out := req.Clone(req.Context())
	u := out.URL
	u.Scheme, u.Host = "https", s.host
	out.Host = "" // so that it is the URL's
	if s.prefix.Path != "" {
		u.Path, u.RawPath = s.prefix.Path+u.Path, s.prefix.EscapedPath()+u.EscapedPath()
	}
	return out
}
