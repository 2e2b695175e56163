// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// daemonStatus is what waggle status shows.
func (c *cluster) daemonStatus() (*status.Status, error) {
	client := status.Client{Socket: filepath.Join(c.host.Dir(), "run/waggled.sock")}
	return client.Status(c.t.Context())
}

// endpointOf is what the daemon knows of a pod, nil if nothing.
func (c *cluster) endpointOf(pod string) *status.Endpoint {
	c.t.Helper()
	s, err := c.daemonStatus()
	if err != nil {
		c.t.Fatal(err)
	}
	if i := slices.IndexFunc(s.Endpoints, func(e status.Endpoint) bool { return e.Pod == "default/"+pod }); i >= 0 {
		return &s.Endpoints[i]
	}
	return nil
}

// devices are the names of the node's.
func (c *cluster) devices() (names []string) {
	c.t.Helper()
	if err := c.host.Do(func() error {
		entries, err := os.ReadDir("/sys/class/net")
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return names
}

// podLife: what a pod has is there while it is, and no longer.
func podLife(t *testing.T, n *network) {
	n.kubectl("run", "short", "--image=waggle.dev/test/agent:1", "--override-type=strategic",
		`--overrides={"spec":{"terminationGracePeriodSeconds":1}}`)
	p := n.readyPod("short")
	e := n.endpointOf("short")
	if e == nil || !slices.Equal(e.Addresses, p.ips) {
		t.Fatalf("waggle status shows %+v of a pod with %v", e, p.ips)
	}
	if !slices.Contains(n.devices(), e.HostDevice) {
		t.Errorf("no device %s among %v", e.HostDevice, n.devices())
	}

	t.Run("restarts in place", func(t *testing.T) {
		n := n.in(t)
		_, _ = p.call(t.Context(), "POST", "/exit", url.Values{"code": {"3"}}) // it may be gone before its answer
		n.eventually("the restart", func() error {
			if got := n.kubectl("get", "pod", "short", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "1" {
				return fmt.Errorf("%s restarts", got)
			}
			return nil
		})
		again := n.readyPod("short")
		if now := n.endpointOf("short"); !slices.Equal(again.ips, p.ips) || now == nil || now.ID != e.ID {
			t.Errorf("it had %v and endpoint %d, and has %v and endpoint %v", p.ips, e.ID, again.ips, now)
		}
		for _, a := range again.ips {
			n.pod.works(t, talk.TCP, at(a, 9000))
			again.works(t, talk.TCP, at(ofFamily(n.pod.ips, a), 9000))
		}
	})

	t.Run("goes", func(t *testing.T) {
		n := n.in(t)
		n.kubectl("delete", "pod", "short")
		if e := n.endpointOf("short"); e != nil {
			t.Errorf("waggle status still shows %+v", e)
		}
		if slices.Contains(n.devices(), e.HostDevice) {
			t.Errorf("the device %s is still there", e.HostDevice)
		}
		for _, a := range p.ips {
			if route, err := n.host.Run(t.Context(), "ip", "route", "get", a.String()); err == nil {
				t.Errorf("the node still has a route: %s", route)
			}
			if got := n.pod.ask(t, talk.TCP, at(a, 9000)); got.Error == "" {
				t.Error("it still answers")
			}
		}
	})

	t.Run("its address rests", func(t *testing.T) {
		n := n.in(t)
		var names []string
		for i := range 3 {
			names = append(names, fmt.Sprintf("next-%d", i))
			n.kubectl("run", names[i], "--image=waggle.dev/test/agent:1", `--overrides={"spec":{"terminationGracePeriodSeconds":1}}`)
		}
		for _, name := range names {
			for _, a := range n.readyPod(name).ips {
				if slices.Contains(p.ips, a) {
					t.Errorf("%s has %v at once, which was that of the pod before", name, a)
				}
			}
		}
		n.kubectl(append([]string{"delete", "pod"}, names...)...)
	})
}

// statusIsClean: after all that, there is nothing to complain of, and each pod is known by its
// name and its addresses.
func statusIsClean(t *testing.T, n *network) {
	s, err := n.daemonStatus()
	if err != nil {
		t.Fatal(err)
	}
	if !s.Ready || len(s.Problems) > 0 {
		t.Errorf("ready %v, problems %+v", s.Ready, s.Problems)
	}
	known := map[string]bool{}
	for _, e := range s.Endpoints {
		name := strings.TrimPrefix(e.Pod, "default/")
		known[name] = true
		if ips := n.podIPs(name); !slices.Equal(e.Addresses, ips) {
			t.Errorf("pod %s has %v, and its endpoint %v", name, ips, e.Addresses)
		}
	}
	for line := range strings.FieldsSeq(n.kubectl("get", "pods", "-o", `jsonpath={range .items[?(@.spec.hostNetwork!=true)]}{.metadata.name}{"\n"}{end}`)) {
		if !known[line] {
			t.Errorf("waggle status does not show pod %s", line)
		}
	}
	out, err := n.host.Run(t.Context(), filepath.Join(n.bin, "waggle"), "status")
	if err != nil || !strings.Contains(out, "default/client") || strings.Contains(out, "PROBLEMS") {
		t.Errorf("waggle status: %v\n%s", err, out)
	}
}

// cgroupValue reads a file of a pod's cgroup: of the first that there is, since it has
// another name in each version.
func (c *cluster) cgroupValue(class, pod string, files ...[2]string) string {
	c.t.Helper()
	uid := c.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	for _, f := range files {
		roots := []string{filepath.Join("/sys/fs/cgroup", f[0], c.host.KubeCgroup())}
		for _, root := range roots {
			text, err := os.ReadFile(filepath.Join(root, "kubepods", class, "pod"+uid, f[1]))
			if err == nil {
				return strings.TrimSpace(string(text))
			}
		}
	}
	c.t.Fatalf("pod %s has none of %v", pod, files)
	return ""
}

// qos are the three classes, each in the cgroup that the kubelet has for it.
func qos(t *testing.T, n *network) {
	n.apply("datapath-pods.yaml")
	shares, memory, quota := [2]string{"cpu", "cpu.shares"}, [2]string{"memory", "memory.limit_in_bytes"}, [2]string{"cpu", "cpu.cfs_quota_us"}
	weight2, memory2, quota2 := [2]string{"", "cpu.weight"}, [2]string{"", "memory.max"}, [2]string{"", "cpu.max"}
	for _, tt := range []struct {
		pod, class, parent    string
		shares, memory, quota []string // version 1, version 2
	}{
		{"guaranteed", "Guaranteed", "", []string{"102", "17", "4"}, []string{"67108864"}, []string{"10000", "10000 100000"}},
		{"burstable", "Burstable", "burstable", []string{"51", "9", "2"}, []string{"134217728"}, []string{"-1", "max 100000"}},
		{"besteffort", "BestEffort", "besteffort", []string{"2", "1"}, []string{"9223372036854771712", "max"}, []string{"-1", "max 100000"}},
	} {
		t.Run(tt.pod, func(t *testing.T) {
			n := n.in(t)
			p := n.readyPod(tt.pod)
			if got := n.kubectl("get", "pod", tt.pod, "-o", "jsonpath={.status.qosClass}"); got != tt.class {
				t.Errorf("its class is %s, want %s", got, tt.class)
			}
			for _, v := range []struct {
				what string
				got  string
				want []string
			}{
				{"share of the processors", n.cgroupValue(tt.parent, tt.pod, shares, weight2), tt.shares},
				{"limit of memory", n.cgroupValue(tt.parent, tt.pod, memory, memory2), tt.memory},
				{"limit of processor time", n.cgroupValue(tt.parent, tt.pod, quota, quota2), tt.quota},
			} {
				if !slices.Contains(v.want, v.got) {
					t.Errorf("its %s is %q, want one of %q", v.what, v.got, v.want)
				}
			}
			// Socket programs are on a cgroup above all of them.
			for _, a := range n.clusterIPs("web") {
				p.works(t, talk.TCP, at(a, 9000))
			}
		})
	}
}

// probes: each kind, at each stage. The kubelet asks from the node's network.
func probes(t *testing.T, n *network) {
	kinds := []string{"probe-http", "probe-grpc", "probe-tcp", "probe-exec"}
	for _, pod := range kinds {
		n.wait("condition=ready", "pod/"+pod)
	}
	restarts := func(pod string) string {
		return n.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
	}
	for _, pod := range kinds {
		if got := restarts(pod); got != "0" {
			t.Errorf("%s was restarted %s times: it is well", pod, got)
		}
	}
	endpoints := func() []netip.Addr {
		var out []netip.Addr
		for a := range strings.FieldsSeq(n.kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=probed",
			"-o", "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}")) {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, pod := range []string{"probe-http", "probe-grpc", "probe-exec"} {
		t.Run(pod, func(t *testing.T) {
			n := n.in(t)
			ips := n.podIPs(pod)
			if pod == "probe-exec" {
				n.kubectl("exec", pod, "--", "rm", "/tmp/well")
			} else {
				_, _ = n.podAt(pod, 8080).call(t.Context(), "POST", "/healthz", nil) // its status says what it is now
			}
			n.eventually("its end as an endpoint", func() error {
				if slices.ContainsFunc(ips, func(a netip.Addr) bool { return slices.Contains(endpoints(), a) }) && restarts(pod) == "0" {
					return fmt.Errorf("it is among %v", endpoints())
				}
				return nil
			})
			n.eventually("its restart", func() error {
				if restarts(pod) == "0" {
					return errors.New("not yet")
				}
				return nil
			})
			n.wait("condition=ready", "pod/"+pod)
			n.eventually("its return as an endpoint", func() error {
				now := endpoints()
				if !slices.Contains(now, ips[0]) || !slices.Contains(now, ips[1]) {
					return fmt.Errorf("it is not among %v", now)
				}
				return nil
			})
		})
	}
	n.eventually("the restart of who does not listen", func() error {
		if restarts("probe-nobody") == "0" {
			return errors.New("not yet")
		}
		return nil
	})
	n.kubectl("delete", "-f", testdata(t, "datapath-pods.yaml"), "--wait=false")
}
