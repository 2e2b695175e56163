// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/waggle-net/waggle/test/images/agent/talk"
	"github.com/waggle-net/waggle/test/lab"
)

// place is where traffic starts: an agent in a pod, on the node or outside, which does
// what it is told by HTTP. What it says to others comes from its own sockets.
type place struct {
	name string
	from *lab.Host // who reaches it
	at   netip.AddrPort
	ips  []netip.Addr
}

// Ports of the agents that share the node's network: 8080 and 9000 are those of pods.
const (
	nodeAgentPort = 8082 // the node's own
	hostPodPort   = 8081 // the pod's of the host network
)

// runAgent starts an agent on a host of the lab, outside of containers.
func (c *cluster) runAgent(name string, h *lab.Host, port uint16, args ...string) *place {
	c.t.Helper()
	argv := append([]string{"env", "AGENT_NAME=" + name, c.buildAgent(), fmt.Sprintf("-http=:%d", port)}, args...)
	p, err := h.Start(c.t.Context(), "agent", argv...)
	if err != nil {
		c.t.Fatal(err)
	}
	// Before the lab goes: its program may not be in use then.
	c.t.Cleanup(func() { _ = p.Kill() })
	out := &place{name, h, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), h.Addrs()}
	c.answers(out)
	return out
}

// buildAgent is the program alone, which hosts find at the same path as we do.
func (c *cluster) buildAgent() string {
	c.t.Helper()
	program := filepath.Join(c.t.TempDir(), "agent")
	build := exec.CommandContext(c.t.Context(), "go", "build", "-o", program, "github.com/waggle-net/waggle/test/images/agent")
	if out, err := build.CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	return program
}

// readyPod is a pod's agent. It waits until the pod is ready.
func (c *cluster) readyPod(name string) *place {
	c.t.Helper()
	c.wait("condition=ready", "pod/"+name)
	return c.podAt(name, 8080)
}

// podAt is the agent of a pod that is there, ready or not.
func (c *cluster) podAt(name string, port uint16) *place {
	c.t.Helper()
	ips := c.podIPs(name)
	p := &place{name, c.host, netip.AddrPortFrom(ips[0], port), ips}
	c.answers(p)
	return p
}

func (c *cluster) podIPs(name string) []netip.Addr {
	c.t.Helper()
	var ips []netip.Addr
	c.eventually("the addresses of pod "+name, func() error {
		ips = nil
		for text := range strings.FieldsSeq(c.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIPs[*].ip}")) {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			ips = append(ips, a)
		}
		if len(ips) != 2 {
			return fmt.Errorf("it has %v", ips)
		}
		return nil
	})
	return ips
}

// answers waits for an agent.
func (c *cluster) answers(p *place) {
	c.t.Helper()
	c.eventually("the agent of "+p.name, func() error {
		_, err := p.call(c.t.Context(), http.MethodGet, "/who", nil)
		return err
	})
}

// call asks the agent itself, by a socket that no program of ours sees.
func (p *place) call(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = p.from.DoNet(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s%s?%s", p.at, path, query.Encode()), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", p.name, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, err
}

func (p *place) decode(t testing.TB, method, path string, query url.Values, v any) {
	t.Helper()
	body, err := p.call(t.Context(), method, path, query)
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		t.Fatalf("%s %s %v: %v", method, path, query, err)
	}
}

// ask has the agent ask another one.
func (p *place) ask(t testing.TB, kind, to string) talk.Answer {
	t.Helper()
	return p.askSize(t, kind, to, 1)
}

func (p *place) askSize(t testing.TB, kind, to string, size int) (a talk.Answer) {
	t.Helper()
	p.decode(t, http.MethodGet, "/ask", url.Values{"kind": {kind}, "to": {to}, "size": {fmt.Sprint(size)}}, &a)
	return a
}

// lookup has the agent ask DNS. What is not found is nothing.
func (p *place) lookup(t testing.TB, kind, name string) ([]string, error) {
	t.Helper()
	var found []string
	body, err := p.call(t.Context(), http.MethodGet, "/lookup", url.Values{"kind": {kind}, "name": {name}})
	if err == nil {
		err = json.Unmarshal(body, &found)
	}
	return found, err
}

func (p *place) file(t testing.TB, path string) string {
	t.Helper()
	body, err := p.call(t.Context(), http.MethodGet, "/file", url.Values{"path": {path}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// flow is one that an agent keeps going.
type flow struct {
	place *place
	name  string
	id    int
}

func (p *place) flow(t testing.TB, kind, to string) *flow {
	t.Helper()
	f := &flow{place: p, name: fmt.Sprintf("%s from %s to %s", kind, p.name, to)}
	p.decode(t, http.MethodPost, "/flow", url.Values{"kind": {kind}, "to": {to}}, &f.id)
	return f
}

// endAll ends flows, and fails where anything of one was lost. It is done with all at
// once: each waits for what is under way.
func endAll(t testing.TB, flows []*flow) []talk.Report {
	t.Helper()
	reports, g := make([]talk.Report, len(flows)), errgroup.Group{}
	for i, f := range flows {
		g.Go(func() error {
			body, err := f.place.call(t.Context(), http.MethodDelete, "/flow", url.Values{"id": {fmt.Sprint(f.id)}})
			if err != nil {
				return err
			}
			return json.Unmarshal(body, &reports[i])
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, r := range reports {
		if r.Sent != r.Received || r.Sent == 0 || len(r.Errors) > 0 {
			t.Errorf("%s: %d sent, %d answered, longest silence %d ms, errors %q", flows[i].name, r.Sent, r.Received, r.Longest, r.Errors)
		}
	}
	return reports
}

// at writes an address and a port.
func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// ofFamily picks the address of the family of another.
func ofFamily(list []netip.Addr, like netip.Addr) netip.Addr {
	for _, a := range list {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// clusterIPs are the addresses of a service.
func (c *cluster) clusterIPs(service string) []netip.Addr {
	c.t.Helper()
	var out []netip.Addr
	for text := range strings.FieldsSeq(c.kubectl("get", "service", service, "-o", "jsonpath={.spec.clusterIPs[*]}")) {
		out = append(out, netip.MustParseAddr(text))
	}
	if len(out) != 2 {
		c.t.Fatalf("service %s has addresses %v", service, out)
	}
	return out
}

// applyText applies manifests.
func (c *cluster) applyText(text string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.kubectl("apply", "-f", file)
}
