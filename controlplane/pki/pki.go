// SPDX-License-Identifier: Apache-2.0

// Package pki makes and keeps the keys, the certificates and the kubeconfigs of a
// server.
//
// Three CAs, the key that signs service account tokens and the key that encrypts
// secrets are made once and never replaced: when one of them is missing or wrong,
// the answer is an error that says what to do. Certificates of components (leaves)
// are replaced whenever they do not fit any more. Each is one file, certificate
// first, then its key, and is replaced by a rename: whoever reads it finds a pair
// that belongs together, at any moment. Kubernetes and etcd read it twice, for the
// certificate and for the key. If a rename comes between the two, they see that the
// halves do not fit, and read again (etcd and client-go at the next connection).
package pki

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Files of layout.Layout.PKIDir. A .crt is a certificate alone, a .key a private
// key alone, a .pem a certificate and its private key.
const (
	ClusterCACert     = "cluster-ca.crt"
	ClusterCAKey      = "cluster-ca.key"
	FrontProxyCACert  = "front-proxy-ca.crt"
	FrontProxyCAKey   = "front-proxy-ca.key"
	EtcdCACert        = "etcd-ca.crt"
	EtcdCAKey         = "etcd-ca.key"
	ServiceAccountKey = "service-account.key"

	APIServer                = "apiserver.pem"
	APIServerKubeletClient   = "apiserver-kubelet-client.pem"
	APIServerEtcdClient      = "apiserver-etcd-client.pem"
	FrontProxyClient         = "front-proxy-client.pem"
	ControllerManager        = "controller-manager.pem"
	ControllerManagerServing = "controller-manager-serving.pem"
	Scheduler                = "scheduler.pem"
	SchedulerServing         = "scheduler-serving.pem"
	Admin                    = "admin.pem"
	KubeletClient            = "kubelet-client.pem"
	KubeletServing           = "kubelet-serving.pem"
	Waggled                  = "waggled.pem"
	EtcdServer               = "etcd-server.pem"
	EtcdPeer                 = "etcd-peer.pem"
)

// Names that Kubernetes does not know by itself: they may nothing until somebody
// binds a role to them.
const (
	// AdminsGroup is the group of the admin, to be bound to the ClusterRole
	// cluster-admin. It is not system:masters, because nobody can take that
	// group's rights away: a lost certificate would be good until it ends.
	AdminsGroup = "waggle:cluster-admins"

	// DataplaneGroup is the group of every node's waggled, beside that of nodes:
	// for what the Node authorizer gives no node, such as endpoints.
	DataplaneGroup = "waggle:dataplane"

	// AdminUser is the admin's name.
	AdminUser = "kubernetes-admin"

	// KubeletAPIUser is who the apiserver is to kubelets (logs, exec), to be
	// bound to the ClusterRole system:kubelet-api-admin.
	KubeletAPIUser = "kube-apiserver-kubelet-client"

	// FrontProxyUser is who the apiserver is to aggregated ones, for
	// --requestheader-allowed-names.
	FrontProxyUser = "front-proxy-client"
)

// What a Spec has unless it says otherwise.
const (
	DefaultClusterDomain = "cluster.local"
	DefaultPort          = 6443

	DefaultLifetime = 365 * 24 * time.Hour
	// DefaultRenewBefore leaves a machine that is switched off for a season with
	// certificates that are good when it comes back.
	DefaultRenewBefore = 90 * 24 * time.Hour

	// CALifetime is how long a CA lasts. There is no way yet to replace one
	// while the cluster runs.
	CALifetime = 10 * 365 * 24 * time.Hour
)

// skew is how far a new certificate reaches back. Another machine, or this one
// after its clock was set right, may be that much behind and still accepts it.
const skew = time.Hour

// earliest is before any release of this program. A clock that says less has lost
// its battery, and a CA made now would end years too soon.
var earliest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Spec is what the files are to say.
type Spec struct {
	// Layout names the files. Required, with an absolute data folder, because
	// kubeconfigs refer to them.
	Layout layout.Layout

	NodeName string // Required.

	// NodeIPs are the node's addresses. Required; the first is the one that the
	// admin's kubeconfig reaches the apiserver by.
	NodeIPs []netip.Addr

	// ServiceIPs are the addresses of the service kubernetes.default, one for
	// each family. Required.
	ServiceIPs []netip.Addr

	// ClusterDomain is the DNS domain of services. Optional: DefaultClusterDomain.
	ClusterDomain string

	// TLSSANs are further names and addresses that clients reach the apiserver
	// by. Optional. A name may begin with "*.".
	TLSSANs []string

	// Port of the apiserver. Optional: DefaultPort.
	Port uint16

	// Lifetime of new leaves. Optional: DefaultLifetime. None outlives its CA.
	Lifetime time.Duration

	// RenewBefore is how long before its end a leaf is renewed. Optional:
	// DefaultRenewBefore.
	RenewBefore time.Duration
}

// Change is a file that was written or repaired.
type Change struct {
	File   string    // its path
	Reason string    // why, such as "did not exist"
	Until  time.Time // when its certificate ends, zero for what does not end
}

// withDefaults is the spec with its optional fields filled.
func (s Spec) withDefaults() Spec {
	if s.ClusterDomain == "" {
		s.ClusterDomain = DefaultClusterDomain
	}
	if s.Port == 0 {
		s.Port = DefaultPort
	}
	if s.Lifetime == 0 {
		s.Lifetime = DefaultLifetime
	}
	if s.RenewBefore == 0 {
		s.RenewBefore = DefaultRenewBefore
	}
	return s
}

// validate expects a spec with defaults.
func (s Spec) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(s.Layout.Data) {
		fail("data folder %q: use an absolute path", s.Layout.Data)
	}
	if !isName(s.NodeName) {
		fail("node name %q: use lower case letters, digits, '-' and '.'", s.NodeName)
	}
	if !isName(s.ClusterDomain) {
		fail("cluster domain %q: use a DNS name such as %s", s.ClusterDomain, DefaultClusterDomain)
	}
	if len(s.NodeIPs) == 0 {
		fail("node addresses: there is none")
	}
	if len(s.ServiceIPs) == 0 {
		fail("address of the service kubernetes.default: there is none")
	}
	for _, ips := range [][]netip.Addr{s.NodeIPs, s.ServiceIPs} {
		for _, ip := range ips {
			if !ip.IsValid() || ip.IsUnspecified() || ip.Zone() != "" {
				fail("address %s: use one that others can reach, without a zone", ip)
			}
		}
	}
	for _, san := range s.TLSSANs {
		if ip, err := netip.ParseAddr(san); err == nil && ip.Zone() == "" {
			continue
		}
		if !isName(strings.TrimPrefix(strings.ToLower(san), "*.")) {
			fail("TLS SAN %q: use a DNS name, without port or scheme, or an IP address", san)
		}
	}
	if s.Lifetime < 0 || s.RenewBefore < 0 || s.RenewBefore >= s.Lifetime {
		fail("certificates that last %s cannot be renewed %s before their end: use a shorter time", s.Lifetime, s.RenewBefore)
	}
	return errors.Join(errs...)
}

func isName(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }
