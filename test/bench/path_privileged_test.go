// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"context"
	"flag"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/test/lab"
)

var (
	rounds = flag.Int("bench.rounds", 11, "how often each path is measured")
	slice  = flag.Duration("bench.slice", 200*time.Millisecond, "how long each path is measured in a round")
)

// Client and server run on processors of their own, or on one: then nobody waits
// for a sleeping processor, and each microsecond of the path is seen.
const clientCPU, otherCPU = 0, 1

// What is measured on each path.
var measures = []struct {
	name, mode string
	workers    int
	serverCPU  int
	unit       string
	scale      float64 // of the generator's count
}{
	{"stream", "stream", 1, otherCPU, "Gbit/s", 8e-9},
	{"stream-one-cpu", "stream", 1, clientCPU, "Gbit/s", 8e-9},
	{"rr", "rr", 1, otherCPU, "tx/s", 1},
	{"rr-one-cpu", "rr", 1, clientCPU, "tx/s", 1},
	{"crr", "crr", 1, otherCPU, "conn/s", 1},
	{"crr-one-cpu", "crr", 1, clientCPU, "conn/s", 1},
	{"crr-8-workers", "crr", 8, otherCPU, "conn/s", 1},
	{"udp-rr", "udp", 1, otherCPU, "tx/s", 1},
	{"udp-rr-one-cpu", "udp", 1, clientCPU, "tx/s", 1},
}

// path is a way from a client to a server.
type path struct {
	name   string
	client func(ctx context.Context, args ...string) *exec.Cmd
	server func(ctx context.Context, args ...string) *exec.Cmd
	netns  []string
	addrs  []netip.Addr         // IPv4, IPv6
	before func() (undo func()) // what differs while it is measured; optional
}

// BenchmarkPath compares the ways between two pods of a node with two namespaces
// joined by one veth pair, which no dataplane can beat by much.
func BenchmarkPath(b *testing.B) {
	h := node(b)
	paths := newPaths(b, h)
	for _, m := range measures {
		b.Run(m.name, func(b *testing.B) {
			stop := serveAll(b, paths, m.serverCPU)
			defer stop()
			for i, family := range []string{"IPv4", "IPv6"} {
				b.Run(family, func(b *testing.B) {
					loads := make([][]load, len(paths))
					for r := range *rounds {
						for j := range paths { // another first in each round
							k := (r + j) % len(paths)
							to := netip.AddrPortFrom(paths[k].addrs[i], port(m.mode))
							loads[k] = append(loads[k], measure(b, paths[k], m.mode, to, m.workers))
						}
					}
					for k, p := range paths {
						result(b, p.name, pathMetrics(loads[k], loads[0], m.unit, m.scale)...)
					}
				})
			}
		})
	}
	checkPaths(b, h)
}

func newPaths(b *testing.B, h *lab.Host) []path {
	b.Helper()
	var pods []*lab.Pod
	for _, name := range []string{"client", "server", "outsider"} {
		p, err := h.AddPod(b.Context(), lab.PodOptions{Name: name})
		if err != nil {
			b.Fatal(err)
		}
		pods = append(pods, p)
	}
	service := addService(b, h, pods[1])
	p := newBare(b, h)
	inPods := []string{pods[0].NetNS, pods[1].NetNS}
	server := inCgroup(pods[1])
	// A client outside of its pod's cgroup, whose sockets no program sees: its
	// packets are translated one by one. In a pod of its own, since to the server
	// a port that was used through a service and then directly is one and the
	// same, with time stamps that may go back (RFC 7323, 5.2: SYNs are dropped).
	outside := outOfCgroup(pods[2].NetNS)
	redirect := func() func() { return redirectOnly(b, h, [2]*lab.Pod(pods[:2])) }
	paths := []path{
		{"bare", outOfCgroup(p.netns[0]), outOfCgroup(p.netns[1]), p.netns[:], p.addrs[1], nil},
		{"pod", inCgroup(pods[0]), server, inPods, pods[1].IPs, nil},
		{"redirect-only", inCgroup(pods[0]), server, inPods, pods[1].IPs, redirect},
		{"service", inCgroup(pods[0]), server, inPods, service, nil},
		{"service-per-packet", outside, server, []string{pods[2].NetNS, pods[1].NetNS}, service, nil},
	}
	want := device(b, p.netns[0])
	for _, p := range paths {
		for _, ns := range p.netns {
			if have := device(b, ns); have != want {
				b.Fatalf("paths differ: eth0 of %s is %q, that of the bare pair %q", ns, have, want)
			}
			if err := tune(ns); err != nil {
				b.Fatal(err)
			}
		}
	}
	return paths
}

// checkPaths makes sure that what was measured is what the names say.
func checkPaths(b *testing.B, h *lab.Host) {
	b.Helper()
	s, err := daemonStatus(b.Context(), h)
	if err != nil {
		b.Fatal(err)
	}
	count := make(map[string]uint64)
	for _, c := range s.Counters {
		count[c.Hook+"/"+c.Name] += c.Packets
		if c.Drop && c.Packets > 0 {
			b.Logf("%s/%s: %d packets", c.Hook, c.Name, c.Packets)
		}
	}
	for _, name := range []string{"from_pod/delivered", "from_pod/translated", "from_pod/untranslated", "socket/translated"} {
		if count[name] == 0 {
			b.Errorf("nothing was counted as %s: the paths are not what they should be", name)
		}
	}
}

func daemonStatus(ctx context.Context, h *lab.Host) (*status.Status, error) {
	c := status.Client{Socket: h.Dir() + "/run/waggled.sock"}
	return c.Status(ctx)
}

func pathMetrics(loads, bare []load, unit string, scale float64) []metric {
	var rates, bareRates, ratios, p50, p99 []float64
	for i, l := range loads {
		rates = append(rates, l.rate()*scale)
		bareRates = append(bareRates, bare[i].rate()*scale)
		ratios = append(ratios, 100*l.rate()/bare[i].rate())
		p50 = append(p50, float64(l.P50)/1e3)
		p99 = append(p99, float64(l.P99)/1e3)
	}
	out := append(spread(unit, rates), spread("%bare", ratios)...)
	// Noise only slows down: on a busy machine the best rounds compare best.
	out = append(out, metric{"best-%bare", 100 * slices.Max(rates) / slices.Max(bareRates)})
	if loads[0].P50 > 0 {
		out = append(out, spread("p50-us", p50)[0], spread("p99-us", p99)[0])
	}
	return out
}
