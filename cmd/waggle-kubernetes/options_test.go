// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waggle-net/waggle/controlplane/node"
	"github.com/waggle-net/waggle/controlplane/server"
)

var (
	compareAddr   = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	comparePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// TestServerOptions: each value of the configuration gets where it belongs.
func TestServerOptions(t *testing.T) {
	c := testConfig(t,
		"WAGGLE_POD_CIDRS=10.250.0.0/16,fd00:250::/48", "WAGGLE_SERVICE_CIDRS=10.251.0.0/16,fd00:251::/112",
		"WAGGLE_CLUSTER_DOMAIN=example.internal", "WAGGLE_APISERVER_PORT=7443", "WAGGLE_DNS_PORT=5353",
		"WAGGLE_APISERVER_SERVICE_NODE_PORTS=31000-31999",
	)
	got := serverOptions(c)
	want := server.Options{
		Layout: c.Layout(), NodeName: "node1", Addrs: addrs("192.0.2.10", "2001:db8::10"), Port: 7443,
		PodCIDRs: prefixes("10.250.0.0/16", "fd00:250::/48"), ServiceCIDRs: prefixes("10.251.0.0/16", "fd00:251::/112"),
		NodeMaskIPv4: 24, NodeMaskIPv6: 64, NodePorts: "31000-31999",
		Domain: "example.internal", DNSAddrs: addrs("10.251.0.10", "fd00:251::a"), DNSPort: 5353,
		SigningDuration: c.Certificates.Validity.Duration,
		Etcd:            server.EtcdOptions{Heartbeat: 100 * time.Millisecond, Election: time.Second, Quota: 2 << 30},
	}
	opts := cmp.Options{compareAddr, comparePrefix, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(server.Options{}, "Snapshots", "Audit")}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestServerOptionsThatAreOptional(t *testing.T) {
	c := testConfig(t, "WAGGLE_ETCD_PROFILE=slow-disk", "WAGGLE_SNAPSHOTS_INTERVAL=0s", "WAGGLE_AUDIT_ENABLED=false")
	o := serverOptions(c)
	if o.Etcd.Heartbeat != 500*time.Millisecond || o.Etcd.Election != 5*time.Second {
		t.Errorf("etcd on a slow disk: %+v", o.Etcd)
	}
	if o.Snapshots != nil || o.Audit != nil {
		t.Errorf("snapshots %+v, audit %+v, want none", o.Snapshots, o.Audit)
	}

	c = testConfig(t, "WAGGLE_SNAPSHOTS_INTERVAL=6h", "WAGGLE_SNAPSHOTS_KEEP=4", "WAGGLE_AUDIT_ENABLED=true")
	o = serverOptions(c)
	if diff := cmp.Diff(&server.SnapshotOptions{Dir: c.Snapshots.Dir, Every: 6 * time.Hour, Keep: 4}, o.Snapshots); diff != "" {
		t.Errorf("snapshots (-want +got):\n%s", diff)
	}
	if o.Audit == nil || o.Audit.Path != c.Audit.Path || o.Audit.MaxAge != c.Audit.MaxAgeDays ||
		o.Audit.MaxBackups != c.Audit.MaxBackups || o.Audit.MaxSize != c.Audit.MaxSizeMB {
		t.Errorf("audit %+v of %+v", o.Audit, c.Audit)
	}
}

func TestNodeOptions(t *testing.T) {
	c := testConfig(t,
		"WAGGLE_DNS_UPSTREAMS=192.0.2.53", "WAGGLE_KUBELET_CGROUP_ROOT=/pods",
		"WAGGLE_KUBELET_LABELS=rack=r7", "WAGGLE_KUBELET_TAINTS=k=v:NoSchedule",
		"WAGGLE_KUBELET_CONFIG={maxPods: 50}",
	)
	got, err := nodeOptions(c, "systemd")
	if err != nil {
		t.Fatal(err)
	}
	want := node.Options{
		Layout: c.Layout(), Name: "node1", Addrs: addrs("192.0.2.10", "2001:db8::10"),
		PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs, Domain: "cluster.local",
		DNSAddrs: c.DNS.Addresses, DNSPort: 10053, Upstreams: []string{"192.0.2.53"}, ResolvConf: node.ResolvConf(),
		CgroupDriver: "systemd", CgroupRoot: "/pods",
		Labels: map[string]string{"rack": "r7"}, Taints: []string{"k=v:NoSchedule"},
		Kubelet: json.RawMessage(`{"maxPods":50}`),
	}
	if diff := cmp.Diff(want, got, compareAddr, comparePrefix, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}
