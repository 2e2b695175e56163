// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// get asks an address of the host from inside it, by a client certificate of the data
// folder or without one.
func (c *cluster) get(url, pem string) (int, string) {
	c.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the question is who may ask, not who answers
	if pem != "" {
		cert, err := tls.LoadX509KeyPair(c.data("pki/"+pem), c.data("pki/"+pem))
		if err != nil {
			c.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = c.host.DoNet(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// access: who is nobody learns whether the API server is ready, and nothing else; who
// is somebody gets what RBAC gives.
func access(t *testing.T, c *cluster) {
	for path, want := range map[string]int{
		"/readyz": 200, "/livez": 200, "/healthz": 200,
		"/api": 401, "/version": 401, "/metrics": 401, "/readyz/etcd": 401, "/openapi/v2": 401, "/.well-known/openid-configuration": 401,
	} {
		for _, a := range c.host.Addrs() {
			if got, body := c.get("https://"+net.JoinHostPort(a.String(), "6443")+path, ""); got != want {
				t.Errorf("%s from nobody, at %s: %d, want %d: %.100s", path, a, got, want, body)
			}
		}
	}
	// Other ports of the node.
	for _, url := range []string{"https://127.0.0.1:10250/pods", "https://127.0.0.1:10257/metrics", "https://127.0.0.1:10259/metrics"} {
		if got, body := c.get(url, ""); got != 401 && got != 403 {
			t.Errorf("%s from nobody: %d %.100s", url, got, body)
		}
	}
	if got, body := c.get("https://127.0.0.1:2379/health", ""); got != 0 {
		t.Errorf("etcd answers to nobody: %d %s", got, body)
	}
	if got, body := c.get("https://127.0.0.1:2379/health", "admin.pem"); got != 0 {
		t.Errorf("etcd answers to a user of the cluster: %d %s", got, body)
	}

	c.kubectl("create", "serviceaccount", "reader")
	c.kubectl("create", "role", "reads-pods", "--verb=get,list", "--resource=pods")
	c.kubectl("create", "rolebinding", "reader", "--role=reads-pods", "--serviceaccount=default:reader")
	c.eventually("the role", func() error {
		_, err := c.tryKubectl("auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:reader")
		return err
	})
	for _, verb := range [][]string{{"list", "secrets"}, {"delete", "pods"}, {"create", "clusterrolebindings"}} {
		if out, err := c.tryKubectl("auth", "can-i", verb[0], verb[1], "--as=system:serviceaccount:default:reader"); err == nil {
			t.Errorf("a reader of pods may %v: %s", verb, out)
		}
	}
	// A token is what it is for.
	token := strings.TrimSpace(c.kubectl("create", "token", "reader"))
	if out, err := c.tryKubectl("--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--certificate-authority=/var/lib/waggle-kube/pki/cluster-ca.crt",
		"--token="+token, "get", "pods"); err != nil {
		t.Errorf("a reader of pods reads pods: %v %s", err, out)
	}
}

// nodeIdentity is what a node may do: the Node authorizer and NodeRestriction.
func nodeIdentity(t *testing.T, c *cluster) {
	c.kubectl("create", "secret", "generic", "of-nobody", "--from-literal=a=b")
	c.kubectl("apply", "-f", testdata(t, "othernode.yaml"))
	as := func(args ...string) (string, error) {
		return c.tryKubectl(append([]string{"--kubeconfig=/var/lib/waggle-kube/kubeconfig/kubelet.yaml"}, args...)...)
	}
	if out, err := as("get", "node", c.host.Name, "-o", "name"); err != nil {
		t.Fatalf("a node reads itself: %v %s", err, out)
	}
	if out, err := as("annotate", "node", c.host.Name, "waggle.dev/test=1"); err != nil {
		t.Errorf("a node annotates itself: %v %s", err, out)
	}
	for _, denied := range [][]string{
		{"get", "secret", "of-nobody"},
		{"get", "secrets", "-A"},
		{"label", "node", c.host.Name, "node-restriction.kubernetes.io/zone=mine"},
		{"label", "node", "other", "a=b"},
		{"annotate", "node", "other", "a=b"},
		{"delete", "node", "other"},
		{"create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=system:node:node1"},
		{"create", "token", "default"},
	} {
		out, err := as(denied...)
		if err == nil || !strings.Contains(strings.ToLower(out+err.Error()), "forbidden") {
			t.Errorf("a node may %v: %v %s", denied, err, out)
		}
	}
	c.kubectl("delete", "node", "other")
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// secretsAtRest looks for what is in a secret, and for what is in a config map, in
// etcd's files: the second must be there, or the search would prove nothing.
func secretsAtRest(t *testing.T, c *cluster) {
	const hidden, open = "correct-horse-battery-staple", "staple-battery-horse-correct"
	c.kubectl("create", "secret", "generic", "at-rest", "--from-literal=password="+hidden)
	c.kubectl("create", "configmap", "at-rest", "--from-literal=open="+open)
	var all []byte
	err := filepath.WalkDir(c.data("etcd"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(all, []byte(open)) {
		t.Fatal("a config map was not found in etcd's files: the search is wrong")
	}
	for _, secret := range []string{hidden, base64.StdEncoding.EncodeToString([]byte(hidden))} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("etcd's files have %q in them", secret)
		}
	}
	if got := c.kubectl("get", "secret", "at-rest", "-o", "jsonpath={.data.password}"); got != base64.StdEncoding.EncodeToString([]byte(hidden)) {
		t.Errorf("the secret reads as %q", got)
	}
}

// metrics: each family is served by one port of the process, and each port has what
// is named after its component.
func metrics(t *testing.T, c *cluster) {
	ports := map[string][]string{}
	for name, url := range map[string]string{
		"apiserver":          "https://127.0.0.1:6443/metrics",
		"controller-manager": "https://127.0.0.1:10257/metrics",
		"scheduler":          "https://127.0.0.1:10259/metrics",
	} {
		code, body := c.get(url, "admin.pem")
		if code != 200 {
			t.Fatalf("%s: %d %.200s", url, code, body)
		}
		ports[name] = familyNames(body)
	}
	code, body := c.get("https://127.0.0.1:2381/metrics", "etcd-server.pem")
	if code != 200 {
		t.Fatalf("etcd: %d %.200s", code, body)
	}
	ports["etcd"] = familyNames(body)
	code, body = c.get("http://127.0.0.1:9153/metrics", "")
	dns := familyNames(body)
	if code != 200 || len(dns) == 0 || slices.ContainsFunc(dns, func(f string) bool { return !strings.HasPrefix(f, "coredns_") }) {
		t.Errorf("DNS: %d %v", code, dns)
	}
	for name, has := range map[string]string{
		"apiserver": "apiserver_request_total", "controller-manager": "node_collector_zone_size",
		"scheduler": "scheduler_pending_pods", "etcd": "etcd_server_has_leader",
	} {
		if !slices.Contains(ports[name], has) {
			t.Errorf("%s has no %s among %d families", name, has, len(ports[name]))
		}
	}
	for a, families := range ports {
		for b, others := range ports {
			// etcd has a registry of its own, in which the same libraries register.
			if a >= b || a == "etcd" || b == "etcd" {
				continue
			}
			for _, family := range families {
				if slices.Contains(others, family) {
					t.Errorf("%s is served by %s and by %s", family, a, b)
				}
			}
		}
	}
}

// familyNames are the names of the families in the text format of Prometheus.
func familyNames(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			names = append(names, fields[2])
		}
	}
	return names
}

// dnsNames asks the node's own DNS, where the cluster's DNS service points.
func dnsNames(t *testing.T, c *cluster) {
	c.kubectl("apply", "-f", testdata(t, "dns.yaml"))
	slices := c.kubectl("get", "endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns",
		"-o", `jsonpath={range .items[*]}{.endpoints[*].addresses[*]} {.endpoints[*].hints.forNodes[*].name} {.ports[0].port}{"\n"}{end}`)
	for _, a := range c.host.Addrs() {
		if want := fmt.Sprintf("%s %s 10053", a, c.host.Name); !strings.Contains(slices, want) {
			t.Errorf("the DNS service has endpoints %q, want %q", slices, want)
		}
	}
	for _, server := range c.host.Addrs() {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
			err = c.host.DoNet(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(server.String(), "10053"))
				return err
			})
			return conn, err
		}}
		for name, want := range map[string]string{
			"kubernetes.default.svc.cluster.local.":        "10.96.0.1",
			"fixed.default.svc.cluster.local.":             "10.96.77.7 fd00:10:96::77",
			"kube-dns.kube-system.svc.cluster.local.":      "10.96.0.10 fd00:10:96::a",
			"manual-1.headless.default.svc.cluster.local.": "192.0.2.1",
		} {
			c.eventually(name, func() error {
				addrs, err := resolver.LookupHost(t.Context(), name)
				for a := range strings.FieldsSeq(want) {
					if err == nil && !strings.Contains(strings.Join(addrs, " ")+" ", a+" ") {
						err = fmt.Errorf("%s has %v, want %s", name, addrs, want)
					}
				}
				return err
			})
		}
		if _, err := resolver.LookupHost(t.Context(), "nothing.default.svc.cluster.local."); err == nil {
			t.Error("a name that does not exist has an address")
		}
	}
	// All of it was counted.
	code, body := c.get("http://127.0.0.1:9153/metrics", "")
	for _, want := range []string{
		`coredns_dns_requests_total{family="1",proto="udp",`, `coredns_dns_requests_total{family="2",proto="udp",`,
		`rcode="NOERROR",`, `rcode="NXDOMAIN",`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics of DNS: %d, no %s", code, want)
		}
	}
}
