// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// dialer gives up soon: a server that drops packets delays the start by this
// much. A connection that is silent later is found by HTTP/2 pings, which
// client-go sends after 30 s and waits 15 s for.
var dialer = &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}

// failover sends requests to the server that answers. A response, of whatever
// status, is an answer. Without one, following requests go to the next server, and
// so does this request, if it may be repeated.
type failover struct {
	base    http.RoundTripper
	servers *servers
}

var _ utilnet.RoundTripperWrapper = (*failover)(nil)

// WrappedRoundTripper implements utilnet.RoundTripperWrapper, through which
// client-go closes connections.
func (f *failover) WrappedRoundTripper() http.RoundTripper { return f.base }

// RoundTrip implements http.RoundTripper.
func (f *failover) RoundTrip(req *http.Request) (*http.Response, error) {
	var tried attempts
	for _, s := range f.servers.order() {
		if len(tried) > 0 && !rewind(&req) {
			break
		}
		resp, sent, err := f.try(req, s)
		if err == nil {
			f.servers.answered(s, resp.StatusCode)
			return resp, nil
		}
		if errors.Is(req.Context().Err(), context.Canceled) {
			return nil, err // which says nothing of the server
		}
		f.servers.failed(s, err)
		tried = append(tried, attempt{s, err})
		if req.Context().Err() != nil || sent && !safe(req.Method) {
			break
		}
	}
	return nil, tried.err()
}

// try says whether the request may have reached the server.
func (f *failover) try(req *http.Request, s *server) (_ *http.Response, sent bool, _ error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	out := s.direct(req)
	resp, err := f.base.RoundTrip(out.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	return resp, connected.Load(), err
}

// rewind gives a request that was tried its body back.
func rewind(req **http.Request) bool {
	if (*req).Body == nil || (*req).Body == http.NoBody {
		return true
	}
	if (*req).GetBody == nil {
		return false
	}
	body, err := (*req).GetBody()
	if err != nil {
		return false
	}
	again := *(*req)
	again.Body = body
	*req = &again
	return true
}

// safe says whether it makes no difference that a request is made twice (RFC 9110,
// section 9.2.1). That a PUT or DELETE is idempotent is not enough: its second
// answer is another one, such as a conflict with itself.
func safe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return false
}

// attempts are the failures of one request, one for each server.
type attempts []attempt

type attempt struct {
	server *server
	err    error
}

// err leaves a lone error as it is: client-go decides by its type and text
// whether a watch can go on where it was, or must list everything again.
func (a attempts) err() error {
	if len(a) == 1 {
		return a[0].err
	}
	return a
}

func (a attempts) Error() string {
	var texts []string
	for _, t := range a {
		texts = append(texts, t.server.String()+": "+t.err.Error())
	}
	return "no API server answers: " + strings.Join(texts, "; ")
}

func (a attempts) Unwrap() []error {
	var errs []error
	for _, t := range a {
		errs = append(errs, t.err)
	}
	return errs
}
