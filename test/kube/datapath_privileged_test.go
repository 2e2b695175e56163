// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"testing"

	"github.com/waggle-net/waggle/test/lab"
)

// network is a cluster with agents wherever traffic starts.
type network struct {
	*cluster
	pod, hostPod *place // in a pod, in one of the node's network
	node         *place // on the node itself
	outside      *place // beyond the router
}

// TestDatapath is what pods, services and names do over our datapath: of one cluster,
// since its start is what takes time. Each part uses pods of its own, beside those of
// datapath-services.yaml.
func TestDatapath(t *testing.T) {
	t.Parallel()
	c := newClusterIn(t, lab.Topology{Client: true})
	c.up()
	n := c.network()
	for _, part := range []struct {
		name string
		run  func(t *testing.T, n *network)
	}{
		{"Services", services}, {"NodePorts", nodePorts}, {"Readiness", readiness}, {"Environment", environment},
		{"DNS", dnsPolicies}, {"Paths", paths}, {"Pods", podLife}, {"QoS", qos}, {"Probes", probes},
		{"Rights", dataplaneRights}, {"Rollout", rollout}, {"FullNode", fullNode}, {"Status", statusIsClean},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, n.in(t)) })
	}
}

// in is the network as a part of the test sees it.
func (n *network) in(t *testing.T) *network {
	sub, c := *n, *n.cluster
	c.t, sub.cluster = t, &c
	return &sub
}

// network makes what the parts share.
func (c *cluster) network() *network {
	c.t.Helper()
	n := &network{cluster: c}
	n.node = c.runAgent("node", c.host, nodeAgentPort, "-tcp=:9202", "-udp=:9202", "-who=:9203")
	n.outside = c.runAgent("outside", c.host.Lab().Client(), 8080)
	c.apply("datapath-services.yaml")
	c.wait("condition=ready", "pod", "--all")
	n.join()
	return n
}

// join finds the pods.
func (n *network) join() {
	n.pod = n.podAt("client", 8080)
	n.hostPod = n.podAt("host", hostPodPort)
}

// places are those of the cluster.
func (n *network) places() []*place { return []*place{n.pod, n.hostPod, n.node} }
