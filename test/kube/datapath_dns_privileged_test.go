// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// dnsPolicies: names of services and pods, and what each policy makes of resolv.conf.
func dnsPolicies(t *testing.T, n *network) {
	t.Run("records", func(t *testing.T) { dnsRecords(t, n.in(t)) })

	cluster := "10.96.0.10 fd00:10:96::a"
	search := "default.svc.cluster.local svc.cluster.local cluster.local"
	host, err := os.ReadFile("/etc/resolv.conf") // the lab's hosts have the machine's
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		pod                          string
		port                         uint16
		nameservers, search, options string
	}{
		{"client", 8080, cluster, search, "ndots:5"},
		{"host", hostPodPort, cluster, search, "ndots:5"},
		{"host-plain", 8083, resolvConf(string(host), "nameserver"), resolvConf(string(host), "search"), resolvConf(string(host), "options")},
		{"dns-default", 8080, resolvConf(string(host), "nameserver"), resolvConf(string(host), "search"), resolvConf(string(host), "options")},
		{"dns-none", 8080, "fd00:10:96::a", "kube-system.svc.cluster.local", "edns0 ndots:3"},
	} {
		t.Run(tt.pod, func(t *testing.T) {
			text := n.in(t).podAt(tt.pod, tt.port).file(t, "/etc/resolv.conf")
			want := []string{tt.nameservers, tt.search, tt.options}
			options := strings.Fields(resolvConf(text, "options"))
			slices.Sort(options) // the kubelet shuffles them
			got := []string{resolvConf(text, "nameserver"), resolvConf(text, "search"), strings.Join(options, " ")}
			if tt.nameservers != cluster { // upstream writes the search domains of the host behind those of the cluster
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				return
			}
			if got[0] != want[0] || !strings.HasPrefix(got[1], want[1]) || got[2] != want[2] {
				t.Errorf("resolv.conf is\n%s", text)
			}
		})
	}
	none := n.podAt("dns-none", 8080)
	if found, err := none.lookup(t, "host", "kube-dns"); err != nil || len(found) != 2 {
		t.Errorf("a search domain of its own: %v, %v", found, err)
	}
	if found, err := none.lookup(t, "host", "web"); err == nil {
		t.Errorf("a name of a domain that is not searched has %v", found)
	}
	n.hostPod.names(t, talk.HTTP, "web:80", "web-a", "web-b")
}

// resolvConf is what follows a keyword.
func resolvConf(text, keyword string) string {
	var found []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == keyword {
			found = append(found, fields[1:]...)
		}
	}
	return strings.Join(found, " ")
}

// dnsRecords are those of the specification of cluster DNS.
func dnsRecords(t *testing.T, n *network) {
	texts := func(ips []netip.Addr) (out []string) {
		for _, a := range ips {
			out = append(out, a.String())
		}
		return out
	}
	db0, db1 := texts(n.podIPs("db-0")), texts(n.podIPs("db-1"))
	web := texts(n.clusterIPs("web"))
	const domain = ".default.svc.cluster.local"
	dashed := strings.ReplaceAll(n.podIPs("db-0")[0].String(), ".", "-")
	for _, tt := range []struct {
		kind, name string
		want       []string
	}{
		{"host", "web", web}, {"host", "web.default", web}, {"host", "web.default.svc", web}, {"host", "web" + domain + ".", web},
		{"host", "db", slices.Concat(db0, db1)},
		{"host", "db-0.db", db0}, {"host", "db-1.db" + domain, db1},
		{"cname", "elsewhere" + domain, []string{"web" + domain + "."}},
		{"host", "elsewhere", web},
		{"srv", "_http._tcp.db" + domain, []string{"db-0.db" + domain + ".:8080", "db-1.db" + domain + ".:8080"}},
		{"srv", "_who._udp.db" + domain, []string{"db-0.db" + domain + ".:9001", "db-1.db" + domain + ".:9001"}},
		{"srv", "_http._tcp.web" + domain, []string{"web" + domain + ".:80"}},
		{"ptr", web[0], []string{"web" + domain + "."}}, {"ptr", web[1], []string{"web" + domain + "."}},
		{"ptr", db0[0], []string{"db-0.db" + domain + "."}}, {"ptr", db0[1], []string{"db-0.db" + domain + "."}},
	} {
		n.eventually(tt.kind+" of "+tt.name, func() error {
			got, err := n.pod.lookup(t, tt.kind, tt.name)
			slices.Sort(got)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				return fmt.Errorf("%w: -want +got:\n%s", err, diff)
			}
			return nil
		})
	}
	// A name of a pod's address is for those who know the pod, as the documentation says.
	if found, err := n.pod.lookup(t, "host", dashed+".default.pod.cluster.local"); err == nil && !slices.Contains(found, db0[0]) {
		t.Errorf("the name of a pod's address has %v", found)
	}
	for _, unknown := range []string{"nothing", "db-7.db", "web.kube-system", "nothing.cluster.local"} {
		if found, err := n.pod.lookup(t, "host", unknown); err == nil {
			t.Errorf("%s has %v", unknown, found)
		}
	}
	// Names are what pods ask by: over both protocols of DNS, from a shell too.
	n.pod.names(t, talk.HTTP, "web:80", "web-a", "web-b")
	n.pod.names(t, talk.HTTP, "elsewhere:80", "web-a", "web-b")
	n.pod.names(t, talk.HTTP, "db-1.db:8080", "db-1")
	n.pod.names(t, talk.HTTP+"6", "db-1.db:8080", "db-1")
	if out := n.kubectl("exec", "shell", "--", "nslookup", "web"+domain+"."); !strings.Contains(out, web[0]) || !strings.Contains(out, web[1]) {
		t.Errorf("nslookup says\n%s", out)
	}
}
