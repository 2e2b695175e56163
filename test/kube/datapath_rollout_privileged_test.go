// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"fmt"
	"testing"

	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// rollout replaces all pods of a service, twice, while it is asked all the time: from a
// pod, from the node and from outside, by new connections and by ones that are kept.
func rollout(t *testing.T, n *network) {
	n.apply("datapath-rollout.yaml")
	done := fmt.Sprintf("--timeout=%v", patience)
	n.kubectl("rollout", "status", "deployment/rolling", done)
	service, node := n.clusterIPs("rolling"), n.host.Addrs()
	for i := range service {
		to, port := at(service[i], 80), at(node[i], 30082)
		n.eventually("the service from everywhere", func() error {
			for _, p := range n.places() {
				if err := p.ask(t, talk.HTTP, to).Err(); err != nil {
					return err
				}
			}
			return n.outside.ask(t, talk.HTTP, port).Err()
		})
	}
	var flows []*flow
	for i := range service {
		to, port := at(service[i], 80), at(node[i], 30082)
		flows = append(flows,
			n.pod.flow(t, talk.Request, to), n.pod.flow(t, talk.Kept, to), n.node.flow(t, talk.Request, to),
			n.outside.flow(t, talk.Request, port), n.outside.flow(t, talk.Kept, port), n.pod.flow(t, talk.Request, port))
	}
	for range 2 {
		n.kubectl("rollout", "restart", "deployment/rolling")
		n.kubectl("rollout", "status", "deployment/rolling", done)
		// A rollout is over when the new pods are ready; those before them go on for a while.
		n.kubectl("wait", "--for=jsonpath={.status.terminatingReplicas}=0", "deployment/rolling", done)
	}
	for i, r := range endAll(t, flows) {
		if len(r.Names) < 3 {
			t.Errorf("%s: answered by %v: not all were replaced meanwhile", flows[i].name, r.Names)
		}
	}
	n.kubectl("delete", "-f", testdata(t, "datapath-rollout.yaml"), "--wait=false")
}
