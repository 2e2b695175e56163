// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// paths are those that packets take without a service: who sees whom as what, and how
// large a packet may be.
func paths(t *testing.T, n *network) {
	other := n.podAt("web-a", 8080)
	for _, tt := range []struct {
		name            string
		from            *place
		to              []netip.Addr
		http, echo, who uint16
		seen            []netip.Addr // as what the other side sees who asks
	}{
		{"pod to pod", n.pod, other.ips, 8080, 9000, 9001, n.pod.ips},
		{"pod to itself", n.pod, n.pod.ips, 8080, 9000, 9001, n.pod.ips},
		{"pod to node", n.pod, n.host.Addrs(), nodeAgentPort, 9202, 9203, n.pod.ips},
		{"pod to host network", n.pod, n.host.Addrs(), hostPodPort, 9102, 9103, n.pod.ips},
		{"node to pod", n.node, other.ips, 8080, 9000, 9001, n.host.Addrs()},
		{"host network to pod", n.hostPod, other.ips, 8080, 9000, 9001, n.host.Addrs()},
		{"pod to the world", n.pod, n.outside.ips, 8080, 9000, 9001, n.host.Addrs()},
		{"host network to the world", n.hostPod, n.outside.ips, 8080, 9000, 9001, n.host.Addrs()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, to := range tt.to {
				want := ofFamily(tt.seen, to)
				for kind, port := range map[string]uint16{talk.HTTP: tt.http, talk.Who: tt.who} {
					if a := tt.from.ask(t, kind, at(to, port)); a.Error != "" || addrOf(a.Caller) != want {
						t.Errorf("%s to %v: seen as %q, want %v: %s", kind, to, a.Caller, want, a.Error)
					}
				}
				for _, size := range []int{1, 1400, 4 << 20} {
					if a := tt.from.askSize(t, talk.TCP, at(to, tt.echo), size); a.Error != "" {
						t.Errorf("%d bytes by TCP to %v: %s", size, to, a.Error)
					}
				}
				// The last two are sent in fragments.
				for _, size := range []int{1, 1400, 8000, 60000} {
					for _, kind := range []string{talk.UDP, talk.Sent} {
						if a := tt.from.askSize(t, kind, at(to, tt.echo), size); a.Error != "" {
							t.Errorf("%d bytes by %s to %v: %s", size, kind, to, a.Error)
						}
					}
				}
			}
		})
	}
	t.Run("pings", func(t *testing.T) { n.in(t).pings(other) })
	t.Run("MTU", func(t *testing.T) {
		if got := strings.TrimSpace(n.pod.file(t, "/sys/class/net/eth0/mtu")); got != "1500" {
			t.Errorf("a pod's device has MTU %s, and the node's has 1500", got)
		}
	})
	t.Run("without sockets of the cgroup", func(t *testing.T) { n.in(t).perPacket() })
}

// pings are of a size that fits, and of one that does not.
func (n *network) pings(other *place) {
	targets := slices.Concat(other.ips, n.host.Addrs(), n.outside.ips)
	var script strings.Builder
	for _, a := range targets {
		for _, size := range []int{56, 1400, 4000} {
			fmt.Fprintf(&script, "ping -q -c 2 -i 0.1 -W 10 -s %d %v >/tmp/out 2>&1 || { echo %v, %d bytes; cat /tmp/out; }; ", size, a, a, size)
		}
	}
	if out := n.kubectl("exec", "shell", "--", "sh", "-c", script.String()); out != "" {
		n.t.Errorf("these did not answer:\n%s", out)
	}
}

// perPacket asks services from a pod's network by sockets that no socket program sees,
// as those of a sandboxed runtime: the pod's own program translates each packet.
func (n *network) perPacket() {
	t := n.t
	program := n.buildAgent()
	cmd := exec.CommandContext(t.Context(), "nsenter", "--net="+n.netns("dns-default"), program,
		"-http=:8085", "-tcp=", "-udp=", "-who=")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have failed
		_ = cmd.Wait()
	})
	p := n.podAt("dns-default", 8085)
	for _, a := range n.clusterIPs("web") {
		p.names(t, talk.HTTP, at(a, 80), "web-a", "web-b")
		p.names(t, talk.Who, at(a, 53), "web-a", "web-b")
		for _, kind := range []string{talk.TCP, talk.UDP, talk.Sent} {
			p.works(t, kind, at(a, 9000))
		}
	}
	for service, name := range map[string]string{"on-the-node": "host", "outside": "outside"} {
		for _, a := range n.clusterIPs(service) {
			p.names(t, talk.HTTP, at(a, 80), name)
			p.names(t, talk.Who, at(a, 9001), name)
		}
	}
	for _, a := range n.host.Addrs() {
		p.names(t, talk.HTTP, at(a, 30080), "web-a", "web-b")
	}
}

// netns is the network namespace of a pod that runs, as a path.
func (c *cluster) netns(pod string) string {
	c.t.Helper()
	uid := c.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	files, err := filepath.Glob(filepath.Join(c.host.CgroupRoot(), "kube/kubepods/*/pod"+uid+"/*/cgroup.procs"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		if pids := strings.Fields(string(text)); len(pids) > 0 {
			return "/proc/" + pids[0] + "/ns/net"
		}
	}
	c.t.Fatalf("pod %s has no process in %v", pod, files)
	return ""
}
