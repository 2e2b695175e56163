// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/waggle-net/waggle/test/await"

	mdns "github.com/miekg/dns"
)

// testUpstream is a nameserver of the world.
type testUpstream struct {
	addr    string
	queries atomic.Int64 // but for health checks and probes
}

// newUpstream answers with the records of a zone file, and with NXDOMAIN otherwise.
func newUpstream(t *testing.T, zone string) *testUpstream {
	t.Helper()
	var records []mdns.RR
	parser := mdns.NewZoneParser(strings.NewReader(zone), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	return serveUpstream(t, func(w mdns.ResponseWriter, r *mdns.Msg) {
		m := new(mdns.Msg).SetReply(r)
		m.Rcode = mdns.RcodeNameError
		for _, rr := range records {
			if !strings.EqualFold(rr.Header().Name, r.Question[0].Name) {
				continue
			}
			m.Rcode = mdns.RcodeSuccess
			if rr.Header().Rrtype == r.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(mdns.MinMsgSize)
		}
		w.WriteMsg(m)
	})
}

func serveUpstream(t *testing.T, handler mdns.HandlerFunc) *testUpstream {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &testUpstream{addr: packets.LocalAddr().String()}
	streams, err := net.Listen("tcp", u.addr)
	if err != nil {
		t.Fatal(err)
	}
	count := mdns.HandlerFunc(func(w mdns.ResponseWriter, r *mdns.Msg) {
		if q := r.Question[0]; q.Name != "." && q.Qtype != mdns.TypeHINFO {
			u.queries.Add(1)
		}
		handler(w, r)
	})
	for _, s := range []*mdns.Server{{PacketConn: packets, Handler: count}, {Listener: streams, Handler: count}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return u
}

// deadUpstream is an address that refuses.
func deadUpstream(t *testing.T) string {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.LocalAddr().String()
}

func TestForward(t *testing.T) {
	first := newUpstream(t, "www.example.org. 300 IN A 192.0.2.80\n")
	second := newUpstream(t, "www.example.org. 300 IN A 192.0.2.81\n")
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	c.Upstreams = []string{deadUpstream(t), first.addr, second.addr}
	n := run(t, c)
	want := "NOERROR\nwww.example.org.\t30\tIN\tA\t192.0.2.80\n"
	if got := n.answer("udp4", "A", "www.example.org."); got != want {
		t.Errorf("with its first nameserver dead, the answer is %q, want that of the second %q", got, want)
	}
	n.answer("tcp6", "A", "www.example.org.") // from the cache
	if f, s := first.queries.Load(), second.queries.Load(); f != 1 || s != 0 {
		t.Errorf("the nameservers were asked %d and %d times, want 1 and 0: in their order, and once", f, s)
	}
}

func TestTruncated(t *testing.T) {
	var zone strings.Builder
	for i := range 60 {
		fmt.Fprintf(&zone, "many.example.org. 300 IN A 192.0.2.%d\n", i+1)
	}
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	c.Upstreams = []string{newUpstream(t, zone.String()).addr}
	n := run(t, c)
	short, err := n.ask("udp4", "A", "many.example.org.")
	if err != nil {
		t.Fatal(err)
	}
	if !short.Truncated || len(short.Answer) >= 60 {
		t.Errorf("over UDP: truncated %t with %d records, want true, and fewer than 60", short.Truncated, len(short.Answer))
	}
	long, err := n.ask("tcp4", "A", "many.example.org.")
	if err != nil {
		t.Fatal(err)
	}
	if long.Truncated || len(long.Answer) != 60 {
		t.Errorf("over TCP: truncated %t with %d records, want false and 60", long.Truncated, len(long.Answer))
	}
}

func TestNoUpstream(t *testing.T) {
	for _, upstreams := range [][]string{nil, {deadUpstream(t)}} {
		c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
		c.Upstreams = upstreams
		n := run(t, c)
		<-n.synced
		if got := n.answer("udp4", "A", "www.example.org."); got != "SERVFAIL\n" {
			t.Errorf("with nameservers %v, a name of the world is answered %q, want SERVFAIL", upstreams, got)
		}
		if got := n.answer("udp4", "A", "web.default.svc.cluster.local."); got != webAnswer {
			t.Errorf("with nameservers %v, a name of the cluster is answered %q, want %q", upstreams, got, webAnswer)
		}
		if upstreams == nil && !strings.Contains(n.log.String(), "no nameserver to forward to") {
			t.Error("the log does not say that there is no nameserver")
		}
		n.stop()
	}
}

// TestStopWhileForwarding stops the server while a nameserver is silent: who asked is
// told, and Run does not wait for the nameserver.
func TestStopWhileForwarding(t *testing.T) {
	asked := make(chan struct{}, 100)
	silent := serveUpstream(t, func(_ mdns.ResponseWriter, r *mdns.Msg) {
		if r.Question[0].Name == "www.example.org." {
			asked <- struct{}{}
		}
	})
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	c.Upstreams = []string{silent.addr}
	n := run(t, c)
	answer := make(chan string, 1)
	go func() { answer <- n.answer("udp4", "A", "www.example.org.") }()
	<-asked
	n.stop()
	if got := <-answer; got != "SERVFAIL\n" {
		t.Errorf("the answer is %q, want SERVFAIL", got)
	}
	if got := len(asked); got != 0 {
		t.Errorf("the nameserver was asked %d times more, want none", got)
	}
}

func TestResolvConfChanges(t *testing.T) {
	first := newUpstream(t, "www.example.org. 300 IN A 192.0.2.80\n")
	second := newUpstream(t, "other.example.org. 300 IN A 192.0.2.81\n")
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	n := startFollowing(t, c, first.addr)
	want := "NOERROR\nwww.example.org.\t30\tIN\tA\t192.0.2.80\n"
	if got := n.answer("udp4", "A", "www.example.org."); got != want {
		t.Fatalf("the answer is %q, want %q", got, want)
	}
	n.replaceResolvConf(second.addr)
	await.Until(t, func() error {
		want := "NOERROR\nother.example.org.\t30\tIN\tA\t192.0.2.81\n"
		if got := n.answer("udp4", "A", "other.example.org."); got != want {
			return fmt.Errorf("after the change, the answer is %q, want %q", got, want)
		}
		return nil
	})
	n.replaceResolvConf("")
	await.Until(t, func() error {
		if got := n.answer("udp4", "A", "new.example.org."); got != "SERVFAIL\n" {
			return fmt.Errorf("without nameservers, the answer is %q, want SERVFAIL", got)
		}
		return nil
	})
}

// startFollowing starts a node whose resolv.conf names a nameserver. That one has a
// port, too, which other readers of the file do not know.
func startFollowing(t *testing.T, c Config, upstream string) *node {
	t.Helper()
	n := &node{t: t, config: c}
	n.replaceResolvConf(upstream)
	return run(t, n.config)
}

// replaceResolvConf writes another file over it, as network managers do.
func (n *node) replaceResolvConf(nameserver string) {
	n.t.Helper()
	text := "search example.org\n"
	if nameserver != "" {
		text += "nameserver " + nameserver + "\n"
	}
	next := n.config.ResolvConf + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(next, n.config.ResolvConf); err != nil {
		n.t.Fatal(err)
	}
}

// TestLoop has a nameserver that forwards everything back, as systemd-resolved does
// where it was told that cluster DNS is its nameserver.
func TestLoop(t *testing.T) {
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	good := newUpstream(t, "www.example.org. 300 IN A 192.0.2.80\n")
	var back atomic.Int64
	looping := serveUpstream(t, func(w mdns.ResponseWriter, r *mdns.Msg) {
		back.Add(1)
		if m, err := mdns.Exchange(r, c.Listen[0].String()); err == nil {
			w.WriteMsg(m)
		}
	})
	c.Upstreams = []string{looping.addr, good.addr}
	n := run(t, c)
	await.Until(t, func() error {
		if !strings.Contains(n.log.String(), "forwards to cluster DNS") {
			return fmt.Errorf("the log does not name the nameserver that forwards back:\n%s", n.log)
		}
		return nil
	})
	before := back.Load()
	want := "NOERROR\nwww.example.org.\t30\tIN\tA\t192.0.2.80\n"
	if got := n.answer("udp4", "A", "www.example.org."); got != want {
		t.Errorf("the answer is %q, want %q of the other nameserver", got, want)
	}
	if after := back.Load(); after != before {
		t.Errorf("the looping nameserver was asked %d times more, want none", after-before)
	}
}
