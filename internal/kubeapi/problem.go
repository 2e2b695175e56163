// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
)

// Problem is why the API cannot be used.
type Problem struct {
	Since   time.Time
	Message string
	Remedy  string
}

// Problem returns nil while a server answers and accepts who we are, and before
// the first request.
func (c *Client) Problem() *Problem {
	l := c.servers
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.refused.IsZero() && l.silent.IsZero() {
		return &Problem{
			Since: l.refused,
			Message: fmt.Sprintf("API server %s does not accept our credentials since %s",
				l.current, l.refused.Format(time.RFC3339)),
			Remedy: fmt.Sprintf("renew the credentials that kubeconfig %s names: they may have expired, or be another cluster's", c.kubeconfig),
		}
	}
	if l.silent.IsZero() {
		return nil
	}
	var texts []string
	var cure string
	for _, s := range l.known {
		if s.err == nil {
			return nil // the next request tries it
		}
		texts = append(texts, s.String()+": "+s.err.Error())
		if cure == "" {
			cure = remedy(s.err, c.kubeconfig)
		}
	}
	if cure == "" {
		cure = "check that an API server runs there, and that this node reaches it"
	}
	return &Problem{
		Since:   l.silent,
		Message: fmt.Sprintf("no API server answers since %s: %s", l.silent.Format(time.RFC3339), strings.Join(texts, "; ")),
		Remedy:  cure,
	}
}

// remedy returns an empty text for an error that it does not know.
func remedy(err error, kubeconfig string) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		file      *fs.PathError
		dns       *net.DNSError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &authority):
		return fmt.Sprintf("put the CA of this cluster into kubeconfig %s, as certificate-authority", kubeconfig)
	case errors.As(err, &host):
		return "issue a certificate to the API server that is valid for this address, or set tls-server-name in kubeconfig " + kubeconfig
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the API server's certificate, and compare the clocks of both machines"
	case errors.As(err, &file):
		return "restore the file " + file.Path
	case errors.As(err, &dns):
		return "correct the server's name, or use its address"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start the API server, or correct its address and port"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "check that the API server's machine is up, and routes and firewalls on the way to it"
	}
	return ""
}
