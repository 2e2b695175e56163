// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/waggle-net/waggle/test/lab"
)

// TestRestartUnderTraffic: kill -9 and restart, again and again, at random
// moments of the start: no datagram of an established flow is lost and no
// connection breaks, on every path (calico #10670, #8646).
func TestRestartUnderTraffic(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1, 1}, Client: true})
	n1, n2, client := l.Host("node1"), l.Host("node2"), l.Client()
	a, b, c := addPod(t, n1, "a"), addPod(t, n1, "b"), addPod(t, n2, "c")
	for _, s := range []commander{onPod{a}, onPod{b}, onPod{c}, onHost{client}} {
		serve(t, s)
	}
	service := lab.Service{Name: "s", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")}}
	for _, proto := range []string{"TCP", "UDP"} {
		service.Ports = append(service.Ports, lab.ServicePort{Name: strings.ToLower(proto), Protocol: proto, Port: 80, Backends: lab.PodBackends(port, b)})
	}
	applyIntent(t, l, service)

	// The flows start on programs that are attached in haste, and live through
	// their settling.
	var running []*long
	for _, ipv4 := range []bool{true, false} {
		for _, mode := range []string{"tcp", "udp"} {
			worldAddr, vip := client.IPv4, service.ClusterIPs[0]
			if !ipv4 {
				worldAddr, vip = client.IPv6, service.ClusterIPs[1]
			}
			running = append(running,
				flows(t, onPod{a}, mode, at(b.Addr(ipv4), port)),
				flows(t, onPod{a}, mode, at(c.Addr(ipv4), port)),
				flows(t, onPod{a}, mode, at(worldAddr, port)),
				flows(t, onPod{a}, mode, at(vip, 80)),
				flows(t, onHost{n1}, mode, at(b.Addr(ipv4), port)),
				flows(t, onHost{client}, mode, at(a.Addr(ipv4), port)),
			)
		}
	}
	// A flow that the per-packet fallback translates; the others go by the socket.
	fallback := make(chan answer, 1)
	stop := make(chan struct{})
	go func() { fallback <- askUntil(a, at(service.ClusterIPs[0], 80), stop) }()

	for range 5 {
		kill(t, n1)
		// Another one dies while it starts.
		_, err := n1.Start(t.Context(), "waggled", l.BinDir+"/waggled", "run")
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond)
		kill(t, n1)
		start(t, n1)
	}
	close(stop)
	if got := <-fallback; got.Error != "" {
		t.Errorf("the per-packet flow: %s", got.Error)
	}
	for _, f := range running {
		f.end(t)
	}
}

// askUntil asks a service over and over from this process, whose sockets no
// socket hook sees.
func askUntil(p *lab.Pod, to string, stop <-chan struct{}) (a answer) {
	err := p.Do(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if a = ask("tcp", to); a.Error != "" {
				return nil
			}
		}
	})
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// TestDeleteWhileDown: DEL works while no daemon runs, and the next one takes
// notice; ADD then fails with the specification's try-again code.
func TestDeleteWhileDown(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	start(t, n1, "ipam: {restTime: 0s}")
	a, b := addPod(t, n1, "a"), addPod(t, n1, "b")
	kill(t, n1)
	if err := a.Delete(t.Context()); err != nil {
		t.Errorf("delete without a daemon: %v", err)
	}
	_, err := n1.AddPod(t.Context(), lab.PodOptions{Name: "late"})
	var cniErr *types.Error
	if !errors.As(err, &cniErr) || cniErr.Code != types.ErrTryAgainLater {
		t.Errorf("add without a daemon: %v, want code %d", err, types.ErrTryAgainLater)
	}
	start(t, n1, "ipam: {restTime: 0s}")
	s := daemonStatus(t, n1)
	if len(s.Endpoints) != 1 || s.Endpoints[0].ContainerID != b.ContainerID {
		t.Errorf("endpoints are %+v, want only that of %s", s.Endpoints, b)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("check of the other pod: %v", err)
	}
	nothingLeft(t, n1, 1)
	if err := b.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, n1, 0)
}

// nothingLeft compares devices, map entries, pins and routes with the number of
// endpoints that there are.
func nothingLeft(t *testing.T, h *lab.Host, endpoints int) {
	t.Helper()
	links, err := h.Run(t.Context(), "ip", "-o", "link", "show", "type", "veth")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(links, ": wag"); got != endpoints {
		t.Errorf("%s has %d pod devices, want %d:\n%s", h.Name, got, endpoints, links)
	}
	for _, m := range daemonStatus(t, h).Maps {
		if strings.HasPrefix(m.Name, "wag_endpoints") && int(m.Entries) != 2*endpoints {
			t.Errorf("%s: map %s has %d entries, want %d", h.Name, m.Name, m.Entries, 2*endpoints)
		}
	}
	if err := eventually(t, func() error { return settled(h, endpoints) }); err != nil {
		t.Error(err)
	}
	for _, family := range []string{"-4", "-6"} {
		routes, err := h.Run(t.Context(), "ip", family, "route", "show")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(routes, "dev wag"); got != endpoints {
			t.Errorf("%s has %d pod routes in %s, want %d:\n%s", h.Name, got, family, endpoints, routes)
		}
	}
}

// settled says whether the programs of that many endpoints are attached to stay.
func settled(h *lab.Host, endpoints int) error {
	pins, err := os.ReadDir(h.BPFRoot() + "/waggle/links")
	if err != nil {
		return err
	}
	n := 0
	for _, p := range pins {
		if strings.Contains(p.Name(), "_wag") {
			n++
		}
	}
	if n != 2*endpoints {
		return fmt.Errorf("%s has %d pinned links of pods, want %d", h.Name, n, 2*endpoints)
	}
	return nil
}

// TestKilledWhileAdding: the daemon is killed at random moments while pods come
// and go side by side. Afterwards no address is leaked or given twice, and
// what runs works.
func TestKilledWhileAdding(t *testing.T) {
	const workers, rounds = 8, 6
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	start(t, n1, "ipam: {restTime: 0s}")
	var mu sync.Mutex
	alive := make(map[string]*lab.Pod)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				p := addUntil(t.Context(), n1, fmt.Sprintf("w%d-%d", w, i))
				if p == nil {
					return
				}
				if i%3 != 0 {
					if err := p.Delete(t.Context()); err == nil {
						continue
					}
				}
				mu.Lock()
				alive[p.ContainerID] = p
				mu.Unlock()
			}
		})
	}
	go func() { defer close(done); wg.Wait() }()
	kills := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Duration(20+rand.IntN(150)) * time.Millisecond):
			kill(t, n1)
			kills++
			start(t, n1, "ipam: {restTime: 0s}")
		}
	}
	t.Logf("killed %d times, %d pods are alive", kills, len(alive))
	// What a runtime does after a restart: it names what it knows.
	if err := n1.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := daemonStatus(t, n1)
	if len(s.Endpoints) != len(alive) {
		t.Errorf("%d endpoints, %d pods are alive", len(s.Endpoints), len(alive))
	}
	holder := make(map[netip.Addr]string)
	for id, p := range alive {
		for _, ip := range p.IPs {
			if other, ok := holder[ip]; ok {
				t.Errorf("%s belongs to %s and %s", ip, id, other)
			}
			holder[ip] = id
		}
		if err := p.Check(t.Context()); err != nil {
			t.Errorf("check of %s: %v", p, err)
		}
	}
	nothingLeft(t, n1, len(alive))
}

// addUntil adds a pod as a runtime does: what fails is deleted (the lab has
// called DEL) and tried again.
func addUntil(ctx context.Context, h *lab.Host, name string) *lab.Pod {
	for ctx.Err() == nil {
		if p, err := h.AddPod(ctx, lab.PodOptions{Name: name}); err == nil {
			return p
		}
	}
	return nil
}

// Test110Pods: a full node. Twenty are added at a time, each is reached by one
// of them in both families, and after all are deleted nothing is left.
func Test110Pods(t *testing.T) {
	const pods, sideBySide = 110, 20
	l := nodes(t, lab.Topology{Racks: []int{1}}, "ipam: {restTime: 0s}")
	n1 := l.Host("node1")
	all := make([]*lab.Pod, pods)
	eachOf(t, sideBySide, pods, func(i int) error {
		p, err := n1.AddPod(t.Context(), lab.PodOptions{Name: fmt.Sprintf("p%d", i)})
		all[i] = p
		return err
	})
	nothingLeft(t, n1, pods)
	seen := make(map[netip.Addr]bool)
	for _, p := range all {
		serve(t, onPod{p})
		for _, ip := range p.IPs {
			if seen[ip] {
				t.Errorf("%s was given twice", ip)
			}
			seen[ip] = true
		}
	}
	for _, p := range all[1:] {
		for _, ip := range p.IPs {
			var got answer
			if err := all[0].Do(func() error { got = ask("tcp", at(ip, port)); return nil }); err != nil {
				t.Fatal(err)
			}
			if got.Error != "" {
				t.Errorf("%s at %s: %s", p, ip, got.Error)
			}
		}
	}
	eachOf(t, sideBySide, pods, func(i int) error { return all[i].Delete(context.WithoutCancel(t.Context())) })
	nothingLeft(t, n1, 0)
}

// eachOf calls fn for 0 to n-1, some side by side.
func eachOf(t *testing.T, sideBySide, n int, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	errs := make([]error, n)
	for range sideBySide {
		wg.Go(func() {
			for i := range next {
				errs[i] = fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestSecondDaemon: a second one on the same state ends with one clear message
// and leaves the first one's work alone.
func TestSecondDaemon(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	a, b := addPod(t, n1, "a"), addPod(t, n1, "b")
	serve(t, onPod{b})
	out, err := n1.Run(t.Context(), l.BinDir+"/waggled", "run")
	if err == nil || !strings.Contains(out, "another waggled") {
		t.Errorf("the second daemon: %v, %s", err, out)
	}
	if got := asks(t, onPod{a}, "tcp", at(b.Addr(true), port)); got.Error != "" {
		t.Errorf("afterwards: %s", got.Error)
	}
}

// TestCleanup: afterwards the node is as it was before.
func TestCleanup(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	// On a node as it is before the first daemon.
	before := nodeState(t, n1)
	d := start(t, n1)
	addPod(t, n1, "a")
	if err := d.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is no error
		if out, err := n1.Run(t.Context(), l.BinDir+"/waggled", "cleanup"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if after := nodeState(t, n1); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func nodeState(t *testing.T, h *lab.Host) string {
	t.Helper()
	var b strings.Builder
	for _, c := range [][]string{
		{"ip", "-o", "-4", "addr"}, {"ip", "-o", "-6", "addr"}, {"ip", "-4", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"}, {"nft", "list", "ruleset"}, {"ls", h.BPFRoot()},
		{"ip", "neigh", "show", "nud", "permanent"},
	} {
		out, err := h.Run(t.Context(), c[0], c[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n", strings.Join(c, " "))
		for line := range strings.Lines(out) {
			// Forwarding stays on, and with it the subnet-router anycast addresses.
			if !strings.HasPrefix(line, "anycast ") {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// TestJSON keeps the status readable by programs.
func TestJSON(t *testing.T) {
	l := nodes(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	addPod(t, n1, "a")
	out, err := n1.Run(t.Context(), l.BinDir+"/waggle", "status", "--json")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !json.Valid([]byte(out)) {
		t.Errorf("not JSON: %s", out)
	}
}
