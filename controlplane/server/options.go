// SPDX-License-Identifier: Apache-2.0

// Package server runs the control plane of a cluster in one process: etcd, the API
// server, the controller-manager and the scheduler, upstream's code without a fork.
//
// Upstream's commands cannot share a process: each installs the process's one signal
// handler, some exit by themselves. The functions below them take a context and can.
// This package calls those, in the order in which they need each other, and ends
// them in the opposite order.
package server

import (
	"net/netip"
	"strings"
	"time"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Options are what the control plane is told. Every field is required unless it
// says otherwise; they have been validated where they were read.
type Options struct {
	Layout   layout.Layout
	NodeName string
	// Addrs are the node's addresses, the first of the primary family.
	Addrs []netip.Addr
	// Port is where the API server listens, on all addresses.
	Port uint16
	// PodCIDRs and ServiceCIDRs are of one or two families, the primary one first.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	// NodeMaskIPv4 and NodeMaskIPv6 are the lengths of the prefixes that nodes get
	// out of the pod CIDRs, in bits.
	NodeMaskIPv4, NodeMaskIPv6 int
	// NodePorts is the range of NodePort services, as in 30000-32767.
	NodePorts string
	Domain    string
	// DNSAddrs are the addresses of the cluster's DNS service, DNSPort is where the
	// nodes answer for it.
	DNSAddrs []netip.Addr
	DNSPort  uint16
	// SigningDuration is how long certificates hold that the cluster CA signs for
	// CertificateSigningRequests.
	SigningDuration time.Duration
	Etcd            EtcdOptions
	// Snapshots is nil for none that are taken by themselves.
	Snapshots *SnapshotOptions
	// Audit is nil for no audit log.
	Audit *AuditOptions
	// Flags are laid over ours.
	Flags ExtraFlags
}

// EtcdOptions tune the embedded etcd.
type EtcdOptions struct {
	// Heartbeat and Election are raft's intervals.
	Heartbeat, Election time.Duration
	// Quota is the largest size of the database in bytes.
	Quota int64
}

// SnapshotOptions say when the cluster's state is saved.
type SnapshotOptions struct {
	Dir   string
	Every time.Duration
	Keep  int // the newest ones
}

// AuditOptions say where the API server's audit log goes.
type AuditOptions struct {
	// Policy is a file; empty stands for our own policy.
	Policy string
	Path   string
	// MaxAge in days, MaxBackups in files, MaxSize in MB.
	MaxAge, MaxBackups, MaxSize int
}

// ExtraFlags are flags for the components, by name without dashes.
type ExtraFlags struct {
	Etcd, APIServer, ControllerManager, Scheduler map[string]string
}

// primary is the node's address of the primary family.
func (o *Options) primary() netip.Addr { return o.Addrs[0] }

// join writes values as Kubernetes' flags take lists.
func join[T interface{ String() string }](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = v.String()
	}
	return strings.Join(s, ",")
}
