// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// maxPods is how many pods the kubelet takes.
const maxPods = 110

// fullNode has as many pods as a node can, and then none of them: nothing is left.
func fullNode(t *testing.T, n *network) {
	n.wait("delete", "pod", "-l", "app=probed")
	n.eventually("the end of pods of other parts", func() error {
		if left := n.kubectl("get", "pods", "-o", `jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name} {end}`); left != "" {
			return fmt.Errorf("there are %s", left)
		}
		return nil
	})
	before := n.podDevices()
	others := len(strings.Fields(n.kubectl("get", "pods", "-A", "-o", "name")))
	n.applyText(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: many}
spec: {ipFamilyPolicy: RequireDualStack, selector: {app: many}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: %d
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
      - name: agent
        image: waggle.dev/test/agent:1
        args: ["-tcp=", "-udp=", "-who="]
        resources: {requests: {memory: 4Mi}, limits: {memory: 64Mi}}
`, maxPods-others))
	n.kubectl("rollout", "status", "deployment/many", fmt.Sprintf("--timeout=%v", 2*patience))

	pods := map[string][]netip.Addr{}
	for line := range strings.Lines(n.kubectl("get", "pods", "-l", "app=many", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.podIPs[*].ip}{"\n"}{end}`)) {
		fields := strings.Fields(line)
		for _, text := range fields[1:] {
			pods[fields[0]] = append(pods[fields[0]], netip.MustParseAddr(text))
		}
	}
	if len(pods) != maxPods-others {
		t.Fatalf("%d pods run, want %d", len(pods), maxPods-others)
	}
	for name, ips := range pods {
		if len(ips) != 2 {
			t.Errorf("%s has %v", name, ips)
		}
		for _, a := range ips {
			n.pod.names(t, talk.HTTP, at(a, 8080), name)
			if got := n.node.ask(t, talk.HTTP, at(a, 8080)); got.Name != name {
				t.Errorf("the node asks %s, and %q answers: %s", name, got.Name, got.Error)
			}
		}
	}
	n.eventually("a service of all of them", func() error {
		s, err := n.daemonStatus()
		if err != nil {
			return err
		}
		for _, svc := range s.Services {
			if svc.Name == "many" && svc.Ready != len(pods) {
				return fmt.Errorf("%v has %d of %d", svc.Address, svc.Ready, len(pods))
			}
		}
		return nil
	})
	for _, a := range n.clusterIPs("many") {
		for range len(pods) {
			n.pod.works(t, talk.HTTP, at(a, 80))
		}
	}

	n.kubectl("delete", "deployment/many", "service/many")
	n.wait("delete", "pod", "-l", "app=many")
	if after := n.podDevices(); !slices.Equal(before, after) {
		t.Errorf("the devices of pods were\n%v\nand are\n%v", before, after)
	}
	s, err := n.daemonStatus()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Endpoints {
		if _, ok := pods[strings.TrimPrefix(e.Pod, "default/")]; ok {
			t.Errorf("of a pod that is gone there is %+v", e)
		}
	}
	if i := slices.IndexFunc(s.Services, func(s status.Service) bool { return s.Name == "many" }); i >= 0 {
		t.Errorf("of a service that is gone there is %+v", s.Services[i])
	}
	for _, family := range []string{"-4", "-6"} {
		routes, err := n.host.Run(t.Context(), "ip", family, "route", "show", "table", "all")
		if err != nil {
			t.Fatal(err)
		}
		for name, ips := range pods {
			for _, a := range ips {
				if strings.Contains(routes, a.String()+" ") {
					t.Errorf("a route to %v of %s is left", a, name)
				}
			}
		}
	}
}

// podDevices are the devices that waggled made.
func (c *cluster) podDevices() []string {
	c.t.Helper()
	return slices.DeleteFunc(c.devices(), func(name string) bool { return !strings.HasPrefix(name, "wag") })
}
