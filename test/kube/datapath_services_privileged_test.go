// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/images/agent/talk"
)

// manyAsks is how often a service of two backends is asked: that all go to the same one
// happens once in 2^63.
const manyAsks = 64

// names asks until all who are wanted have answered, and fails where somebody else does.
func (p *place) names(t testing.TB, kind, to string, want ...string) {
	t.Helper()
	seen := map[string]bool{}
	for range manyAsks {
		a := p.ask(t, kind, to)
		if a.Error != "" || !slices.Contains(want, a.Name) {
			t.Errorf("%s asks %s by %s: answered by %q, error %q", p.name, to, kind, a.Name, a.Error)
			return
		}
		if seen[a.Name] = true; len(seen) == len(want) {
			return
		}
	}
	t.Errorf("%s asks %s by %s: only %v answered of %v", p.name, to, kind, seen, want)
}

func (p *place) works(t testing.TB, kind, to string) {
	t.Helper()
	if a := p.ask(t, kind, to); a.Error != "" {
		t.Errorf("%s asks %s by %s: %s", p.name, to, kind, a.Error)
	}
}

// services are reached at their addresses from wherever the cluster is.
func services(t *testing.T, n *network) {
	both := []string{"web-a", "web-b"}
	for _, p := range n.places() {
		t.Run(p.name, func(t *testing.T) {
			n := n.in(t)
			for _, a := range n.clusterIPs("web") {
				p.names(t, talk.HTTP, at(a, 80), both...) // a named port, of another number in each pod
				p.names(t, talk.Who, at(a, 53), both...)
				for _, kind := range []string{talk.TCP, talk.UDP, talk.Sent} {
					p.works(t, kind, at(a, 9000))
				}
			}
			for service, name := range map[string]string{"itself": "client", "on-the-node": "host", "outside": "outside"} {
				for _, a := range n.clusterIPs(service) {
					p.names(t, talk.HTTP, at(a, 80), name)
					p.names(t, talk.Who, at(a, 9001), name)
				}
			}
		})
	}
	// The world sees the node and not a pod's address, through a service as without it.
	for _, a := range n.clusterIPs("outside") {
		want := ofFamily(n.host.Addrs(), a)
		for _, p := range n.places() {
			if got := addrOf(p.ask(t, talk.HTTP, at(a, 80)).Caller); got != want {
				t.Errorf("%s is seen outside as %v, want %v", p.name, got, want)
			}
		}
	}
	// A pod that reaches itself keeps its own address.
	for _, a := range n.clusterIPs("itself") {
		if got, want := addrOf(n.pod.ask(t, talk.HTTP, at(a, 80)).Caller), ofFamily(n.pod.ips, a); got != want {
			t.Errorf("a pod is seen by itself as %v, want %v", got, want)
		}
	}
}

func addrOf(text string) netip.Addr {
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

// nodePorts are served at the node's addresses, to everybody.
func nodePorts(t *testing.T, n *network) {
	both := []string{"web-a", "web-b"}
	for _, p := range append(n.places(), n.outside) {
		t.Run(p.name, func(t *testing.T) {
			for _, a := range n.host.Addrs() {
				p.names(t, talk.HTTP, at(a, 30080), both...)
				p.names(t, talk.Who, at(a, 30901), both...)
				for _, kind := range []string{talk.TCP, talk.UDP, talk.Sent} {
					p.works(t, kind, at(a, 30900))
				}
				if got := p.askSize(t, talk.TCP, at(a, 30900), 1<<20); got.Error != "" {
					t.Errorf("%s: a large block: %s", p.name, got.Error)
				}
			}
		})
	}
	for _, a := range n.host.Addrs() {
		if got, want := addrOf(n.outside.ask(t, talk.HTTP, at(a, 30080)).Caller), ofFamily(n.outside.ips, a); got != want {
			t.Errorf("who comes from outside is seen as %v, want %v", got, want)
		}
	}
}

// readiness: who is not ready gets no new connections, and keeps those it has.
func readiness(t *testing.T, n *network) {
	lonely := n.podAt("lonely", 8080)
	addresses := n.clusterIPs("lonely")
	nodeAddresses := n.host.Addrs()
	for i, a := range addresses {
		for _, p := range n.places() {
			p.names(t, talk.HTTP, at(a, 80), "lonely")
		}
		n.outside.names(t, talk.HTTP, at(nodeAddresses[i], 30081), "lonely")
	}
	var flows []*flow
	for i, a := range addresses {
		flows = append(flows, n.pod.flow(t, talk.TCP, at(a, 9000)), n.hostPod.flow(t, talk.TCP, at(a, 9000)),
			n.outside.flow(t, talk.TCP, at(nodeAddresses[i], 30902)))
	}

	n.turn(lonely, "False")
	for i, a := range addresses {
		for _, p := range n.places() {
			n.refused(p, talk.HTTP, at(a, 80))
			n.refused(p, talk.Who, at(a, 9001))
			n.refused(p, talk.HTTP, at(nodeAddresses[i], 30081))
		}
		n.refused(n.outside, talk.HTTP, at(nodeAddresses[i], 30081))
		n.pod.names(t, talk.HTTP, at(n.clusterIPs("anyway")[i], 80), "lonely")
	}
	if found, err := n.pod.lookup(t, "host", "only-ready"); err == nil {
		t.Errorf("a headless service has the pod that is not ready: %v", found)
	}
	if found, err := n.pod.lookup(t, "host", "anyway-headless"); err != nil || len(found) != 2 {
		t.Errorf("a headless service with publishNotReadyAddresses has %v, %v", found, err)
	}

	n.turn(lonely, "True")
	for i, a := range addresses {
		for _, p := range n.places() {
			n.eventually(p.name+" reaches the pod again", func() error { return p.ask(t, talk.HTTP, at(a, 80)).Err() })
		}
		n.eventually("the pod is reached from outside again", func() error {
			return n.outside.ask(t, talk.HTTP, at(nodeAddresses[i], 30081)).Err()
		})
	}
	n.eventually("the headless service has the pod again", func() error {
		_, err := n.pod.lookup(t, "host", "only-ready")
		return err
	})
	endAll(t, flows)
}

// turn makes a pod fail its readiness probe, or pass it again.
func (n *network) turn(p *place, ready string) {
	n.t.Helper()
	_, _ = p.call(n.t.Context(), "POST", "/healthz", nil) // its status says what it is now
	n.wait("condition=Ready="+ready, "pod/"+p.name)
}

// refused waits until a question is refused at once: not ignored, and not answered.
func (n *network) refused(p *place, kind, to string) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%s is refused at %s by %s", p.name, to, kind), func() error {
		if a := p.ask(n.t, kind, to); a.Error != "ECONNREFUSED" {
			return fmt.Errorf("answered by %q, error %q", a.Name, a.Error)
		}
		return nil
	})
}

// environment has the services that were there before the pod.
func environment(t *testing.T, n *network) {
	env := func(name string, port uint16) map[string]string {
		out := map[string]string{}
		body, err := n.podAt(name, port).call(t.Context(), "GET", "/env", nil)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(body)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			out[key] = value
		}
		return out
	}
	web := n.clusterIPs("web")[0].String()
	with := env("client", 8080)
	for key, want := range map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443",
		"WEB_SERVICE_HOST": web, "WEB_SERVICE_PORT": "80", "WEB_SERVICE_PORT_HTTP": "80", "WEB_SERVICE_PORT_ECHO": "9000",
		"WEB_PORT": "tcp://" + web + ":80", "WEB_PORT_53_UDP_ADDR": web, "WEB_PORT_53_UDP_PROTO": "udp",
		"ON_THE_NODE_SERVICE_HOST": n.clusterIPs("on-the-node")[0].String(),
	} {
		if with[key] != want {
			t.Errorf("%s is %q, want %q", key, with[key], want)
		}
	}
	for _, headless := range []string{"DB_SERVICE_HOST", "ELSEWHERE_SERVICE_HOST"} {
		if value, ok := with[headless]; ok {
			t.Errorf("%s is %q: it has no address", headless, value)
		}
	}
	without := env("dns-default", 8080)
	if without["KUBERNETES_SERVICE_HOST"] != "10.96.0.1" {
		t.Errorf("without service links, KUBERNETES_SERVICE_HOST is %q", without["KUBERNETES_SERVICE_HOST"])
	}
	for key, value := range without {
		if strings.HasPrefix(key, "WEB_") {
			t.Errorf("without service links, %s is %q", key, value)
		}
	}
}
