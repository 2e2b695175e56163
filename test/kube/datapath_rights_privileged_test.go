// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// client is who a certificate of the data folder says, and asks from inside the host.
func (c *cluster) client(pem string) *http.Client {
	c.t.Helper()
	cert, err := tls.LoadX509KeyPair(c.data("pki/"+pem), c.data("pki/"+pem))
	if err != nil {
		c.t.Fatal(err)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{ //nolint:gosec // the question is who may ask, not who answers
			Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true,
		},
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = c.host.DoNet(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
}

// may tells whether the API server does what it is asked for. Nothing is changed by it.
func (c *cluster) may(client *http.Client, method, path, body string) bool {
	c.t.Helper()
	if method != http.MethodGet {
		path += "?dryRun=All"
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "https://127.0.0.1:6443"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated:
		return true
	case http.StatusForbidden:
		return false
	}
	c.t.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	return false
}

// dataplaneRights: waggled may look at what it needs, as its node and as a member of the
// dataplane's group, and change nothing that its node may not. A kubelet is not a member.
func dataplaneRights(t *testing.T, n *network) {
	n.kubectl("create", "secret", "generic", "of-nobody", "--from-literal=a=b")
	n.applyText(`
apiVersion: v1
kind: Node
metadata: {name: other}
---
apiVersion: v1
kind: Pod
metadata: {name: of-other}
spec: {nodeName: other, containers: [{name: a, image: "waggle.dev/test/agent:1"}]}
`)
	const (
		core, apps, discovery = "/api/v1", "/apis/apps/v1", "/apis/discovery.k8s.io/v1"
		rbac                  = "/apis/rbac.authorization.k8s.io/v1"
		space                 = core + "/namespaces/default"
		slices                = discovery + "/namespaces/default/endpointslices"
		note                  = `{"metadata": {"annotations": {"waggle.dev/test": "1"}}}`
		configMap             = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}`
		secret                = `{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}}`
		service               = `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": {"ports": [{"port": 80}]}}`
		binding               = `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "mine"},
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
			"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:node:node1"}]}`
		zone  = `{"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "mine"}}}`
		token = `{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"]}}`
	)
	own, other := core+"/nodes/"+n.host.Name, core+"/nodes/other"
	waggled, kubelet, admin := n.client("waggled.pem"), n.client("kubelet-client.pem"), n.client("admin.pem")
	for _, tt := range []struct {
		method, path, body string
		waggled, kubelet   bool
	}{
		{"GET", own, "", true, true},
		{"GET", core + "/nodes", "", true, false},
		{"GET", core + "/services", "", true, true},
		{"GET", discovery + "/endpointslices", "", true, true}, // the node's DNS answers by them
		{"GET", core + "/pods?fieldSelector=spec.nodeName%3D" + n.host.Name, "", true, true},
		{"GET", core + "/pods?fieldSelector=spec.nodeName%3Dother", "", false, false},
		{"GET", core + "/pods", "", false, false},
		{"GET", space + "/pods/of-other", "", false, false},
		{"GET", core + "/secrets", "", false, false},
		{"GET", space + "/secrets/of-nobody", "", false, false},
		{"GET", core + "/configmaps", "", false, false},
		{"GET", apps + "/deployments", "", false, false},
		{"POST", space + "/configmaps", configMap, false, false},
		{"POST", space + "/secrets", secret, false, false},
		{"POST", space + "/services", service, false, false},
		{"PATCH", space + "/services/web", note, false, false},
		{"DELETE", space + "/services/web", "", false, false},
		{"PATCH", slices + "/outside-4", note, false, false},
		{"DELETE", slices + "/outside-4", "", false, false},
		{"PATCH", other, note, false, false},
		{"DELETE", other, "", false, false},
		{"DELETE", space + "/pods/of-other", "", false, false},
		{"PATCH", own, zone, false, false},
		{"POST", rbac + "/clusterrolebindings", binding, false, false},
		{"POST", space + "/serviceaccounts/default/token", token, false, false},
	} {
		for name, who := range map[string]struct {
			client *http.Client
			want   bool
		}{"waggled": {waggled, tt.waggled}, "the kubelet": {kubelet, tt.kubelet}, "the administrator": {admin, true}} {
			if got := n.may(who.client, tt.method, tt.path, tt.body); got != who.want {
				t.Errorf("%s may %s %s: %v, want %v", name, tt.method, tt.path, got, who.want)
			}
		}
	}
	// The group alone is no node: it has what it was given, and that is to look.
	as := []string{"-A", "--as=somebody", "--as-group=waggle:dataplane"}
	for what, want := range map[string]bool{
		"list nodes": true, "watch endpointslices": true, "get endpointslices": true,
		"list secrets": false, "list pods": false, "update nodes": false, "patch endpointslices": false, "create pods": false,
	} {
		out, err := n.tryKubectl(append(append([]string{"auth", "can-i"}, strings.Fields(what)...), as...)...)
		if (err == nil) != want {
			t.Errorf("the dataplane's group may %s: %s", what, out)
		}
	}
	n.kubectl("delete", "pod", "of-other", "--force")
	n.kubectl("delete", "node", "other")
}
