// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKubeConfig(t *testing.T) {
	node := plan(Topology{Name: "lab"}.withDefaults()).Host("node1")
	const head = `apiVersion: waggle.dev/v1alpha1
kind: ServerConfig
nodeName: node1
nodeIPs: ["198.18.0.11", "2001:db8::b"]
podCIDRs: ["10.244.0.0/16", "fd00:10:244::/48"]
kubelet:
  cgroupRoot: /waggle-lab/lab/node1/kube
`
	ours := head + "dataplane:\n  config:\n    bpfRoot: /run/waggle-lab/lab/node1/bpf\n    cgroupRoot: " + node.CgroupRoot() + "\n"
	for _, row := range []struct {
		extra []string
		want  string
	}{
		{nil, ours},
		{[]string{"logLevel: debug\n"}, ours + "logLevel: debug\n"},
		{[]string{"dataplane: {enabled: false}", "logLevel: debug"}, head + "dataplane: {enabled: false}\nlogLevel: debug\n"},
	} {
		if diff := cmp.Diff(row.want, node.KubeConfig(row.extra...)); diff != "" {
			t.Errorf("with %q (-want +got):\n%s", row.extra, diff)
		}
	}
}

// TestKubeEnvironment: what the environment says of the machine is not meant for a node.
func TestKubeEnvironment(t *testing.T) {
	for _, name := range []string{"https_proxy", "NO_PROXY", "KUBECONFIG", "WAGGLE_NODE_NAME", "PROXY_TEST"} {
		t.Setenv(name, "x")
	}
	h := plan(Topology{BinDir: "/opt/bin"}.withDefaults()).Host("node1")
	argv := h.kubeArgv("server")
	got := " " + strings.Join(argv, " ")
	for _, name := range []string{"https_proxy", "NO_PROXY", "KUBECONFIG", "WAGGLE_NODE_NAME"} {
		if !strings.Contains(got, " -u "+name+" ") {
			t.Errorf("%s stays:%s", name, got)
		}
	}
	if strings.Contains(got, "PROXY_TEST") || argv[0] != "env" || !strings.HasSuffix(got, " /opt/bin/waggle-kube server") {
		t.Errorf("command is%s", got)
	}
}
