// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// leaf is what one certificate is to say. Common names and organizations of
// clients are the users and groups of Kubernetes.
type leaf struct {
	file    string
	ca      string // file name of the CA's certificate
	subject pkix.Name
	sans    sans // sorted, none twice
	usage   []x509.ExtKeyUsage
}

// sans are the names and addresses that a certificate is good for.
type sans struct {
	names []string
	ips   []netip.Addr
}

var (
	client = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	// etcd's members call each other, and its gRPC gateway calls its own server.
	both = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// leaves are all certificates of components.
func leaves(s Spec) []leaf {
	local := sans{
		names: []string{"localhost"},
		ips:   []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()},
	}
	node := sans{ips: s.NodeIPs}.with(s.NodeName)
	api := local.and(node).and(sans{ips: s.ServiceIPs}).with(s.TLSSANs...).with(
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc."+s.ClusterDomain)
	kubelet := user("system:node:"+s.NodeName, "system:nodes")
	waggled := user(kubelet.CommonName, "system:nodes", DataplaneGroup)

	return []leaf{
		{APIServer, ClusterCACert, user("kube-apiserver"), api, server},
		{APIServerKubeletClient, ClusterCACert, user(KubeletAPIUser), sans{}, client},
		{APIServerEtcdClient, EtcdCACert, user("kube-apiserver-etcd-client"), sans{}, client},
		{FrontProxyClient, FrontProxyCACert, user(FrontProxyUser), sans{}, client},
		{ControllerManager, ClusterCACert, user("system:kube-controller-manager"), sans{}, client},
		{ControllerManagerServing, ClusterCACert, user("kube-controller-manager"), local, server},
		{Scheduler, ClusterCACert, user("system:kube-scheduler"), sans{}, client},
		{SchedulerServing, ClusterCACert, user("kube-scheduler"), local, server},
		{Admin, ClusterCACert, user(AdminUser, AdminsGroup), sans{}, client},
		{KubeletClient, ClusterCACert, kubelet, sans{}, client},
		{KubeletServing, ClusterCACert, kubelet, node.and(sans{}), server},
		{Waggled, ClusterCACert, waggled, sans{}, client},
		{EtcdServer, EtcdCACert, user(s.NodeName), local.and(node), both},
		{EtcdPeer, EtcdCACert, user(s.NodeName), local.and(node), both},
	}
}

func user(name string, groups ...string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: groups}
}

// with adds names, of which some may be addresses.
func (a sans) with(names ...string) sans {
	var more sans
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			more.ips = append(more.ips, ip)
		} else {
			more.names = append(more.names, strings.ToLower(n))
		}
	}
	return a.and(more)
}

// and joins two lists, sorted, with nothing twice.
func (a sans) and(b sans) sans {
	var ips []netip.Addr
	for _, ip := range slices.Concat(a.ips, b.ips) {
		ips = append(ips, ip.Unmap())
	}
	names := slices.Concat(a.names, b.names)
	slices.Sort(names)
	slices.SortFunc(ips, netip.Addr.Compare)
	return sans{names: slices.Compact(names), ips: slices.Compact(ips)}
}

// strings are the names and addresses for people, names first.
func (a sans) strings() []string {
	list := slices.Clone(a.names)
	for _, ip := range a.ips {
		list = append(list, ip.String())
	}
	return list
}

// sansOf reads them from a certificate.
func sansOf(c *x509.Certificate) sans {
	have := sans{names: c.DNSNames}
	for _, b := range c.IPAddresses {
		if ip, ok := netip.AddrFromSlice(b); ok {
			have.ips = append(have.ips, ip)
		}
	}
	return have.and(sans{})
}

// differs says what about a certificate is not as it is to be, or nothing.
func (l leaf) differs(c *x509.Certificate) string {
	if have, want := c.Subject.String(), l.subject.String(); have != want {
		return fmt.Sprintf("subject was %s, is to be %s", have, want)
	}
	have, want := sansOf(c).strings(), l.sans.strings()
	if missing := without(want, have); len(missing) > 0 {
		return "was not good for " + strings.Join(missing, ", ")
	}
	if extra := without(have, want); len(extra) > 0 || len(c.EmailAddresses)+len(c.URIs) > 0 {
		return strings.TrimSpace("was good for what is not the component's any more: " + strings.Join(extra, ", "))
	}
	if !slices.Equal(slices.Sorted(slices.Values(c.ExtKeyUsage)), slices.Sorted(slices.Values(l.usage))) || len(c.UnknownExtKeyUsage) > 0 {
		return "key usage was another"
	}
	if c.IsCA {
		return "was a CA"
	}
	return ""
}

func without(list, remove []string) []string {
	var rest []string
	for _, s := range list {
		if !slices.Contains(remove, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// stale says why a certificate is to be renewed, or nothing. Until is when a new
// one would end: one that would not last longer is no better.
func (l leaf) stale(c, ca *x509.Certificate, now, until time.Time, renewBefore time.Duration) string {
	switch {
	case c.CheckSignatureFrom(ca) != nil:
		return "was not signed by the CA in " + l.ca
	case now.Before(c.NotBefore):
		return "was not valid before " + stamp(c.NotBefore)
	case now.After(c.NotAfter):
		return "had ended at " + stamp(c.NotAfter)
	case c.NotAfter.Sub(now) < renewBefore && c.NotAfter.Before(until):
		return "was to end at " + stamp(c.NotAfter)
	}
	return l.differs(c)
}
