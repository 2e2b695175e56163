// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/waggle-net/waggle/test/await"

	mdns "github.com/miekg/dns"
)

// node is a Run under test.
type node struct {
	t      *testing.T
	config Config
	synced chan struct{}
	log    *buffer
	end    context.CancelFunc
	ended  chan error
}

// testConfig listens on a port that is free now, at loopback addresses of both families.
func testConfig(t *testing.T, kubeconfig string) Config {
	t.Helper()
	port := 20000 + uint16(os.Getpid()%10000) // below those that the kernel gives out
	free := func(a string) bool {
		return probe(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(a), port)) == nil
	}
	for !free("127.0.0.1") || !free("::1") {
		port++
	}
	return Config{
		Listen: []netip.AddrPort{
			netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port),
			netip.AddrPortFrom(netip.MustParseAddr("::1"), port),
		},
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:10:96::/112")},
		ResolvConf:   writeFile(t, "resolv.conf", ""),
		Kubeconfig:   kubeconfig,
		resolvedConf: "/nonexistent/resolv.conf",
	}
}

// run starts a node, and returns when it answers.
func run(t *testing.T, c Config) *node {
	t.Helper()
	n := &node{t: t, config: c, synced: make(chan struct{}), log: &buffer{}, ended: make(chan error, 1)}
	n.config.Log = slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n.config.Synced = func() { close(n.synced) }
	ctx, cancel := context.WithCancel(context.Background())
	n.end = cancel
	ready := make(chan struct{})
	go func() { n.ended <- Run(ctx, n.config, func() { close(ready) }) }()
	t.Cleanup(n.stop)
	select {
	case <-ready:
	case err := <-n.ended:
		n.ended <- err
		t.Fatalf("Run: %v", err)
	}
	return n
}

// stop ends the node, once or more often.
func (n *node) stop() {
	n.t.Helper()
	n.end()
	err, ok := <-n.ended
	if ok && err != nil {
		n.t.Errorf("Run: %v", err)
	}
	if ok {
		close(n.ended)
	}
	if n.t.Failed() {
		n.t.Logf("log:\n%s", n.log)
	}
}

// ask asks the node for a name over a network: udp, tcp, with the family's digit.
func (n *node) ask(network, typ, name string) (*mdns.Msg, error) {
	server := n.config.Listen[0].String()
	if strings.HasSuffix(network, "6") {
		server = n.config.Listen[1].String()
	}
	query := new(mdns.Msg).SetQuestion(name, mdns.StringToType[typ])
	client := mdns.Client{Net: network}
	answer, _, err := client.Exchange(query, server)
	return answer, err
}

// answer is an answer in the form of the test data.
func (n *node) answer(network, typ, name string) string {
	n.t.Helper()
	m, err := n.ask(network, typ, name)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	b.WriteString(mdns.RcodeToString[m.Rcode])
	world := strings.HasSuffix(name, "example.org.") || strings.HasPrefix(name, "80.2.0.192.")
	if m.Authoritative && !world { // the cache marks all of its answers
		b.WriteString(" aa")
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	b.WriteString("\n")
	var records []string
	for _, rr := range m.Answer {
		if soa, ok := rr.(*mdns.SOA); ok { // its serial is the time
			records = append(records, strings.Replace(rr.String(), fmt.Sprint(soa.Serial), "SERIAL", 1))
			continue
		}
		records = append(records, rr.String())
	}
	if !strings.Contains(strings.Join(records, ""), "CNAME") { // whose order matters
		slices.Sort(records)
	}
	for _, r := range records {
		b.WriteString(r + "\n")
	}
	return b.String()
}

// buffer is a log that many may write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// smallCluster is for tests that need some object of each kind.
const smallCluster = `apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.20, clusterIPs: [10.96.0.20], ports: [{name: http, protocol: TCP, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-node-ipv4, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, protocol: UDP, port: 5353}]
endpoints: [{addresses: [198.51.100.7], conditions: {ready: true}}]`

const webAnswer = "NOERROR aa\nweb.default.svc.cluster.local.\t30\tIN\tA\t10.96.0.20\n"

func TestSpecification(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/specification.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range archive.Files {
		files[f.Name] = string(f.Data)
	}
	c := testConfig(t, newAPIServer(t, strings.TrimSpace(files["objects"])).kubeconfig)
	c.Upstreams = []string{newUpstream(t, files["upstream"]).addr}
	n := run(t, c)
	<-n.synced
	for paragraph := range strings.SplitSeq(strings.TrimSpace(files["queries"]), "\n\n") {
		for strings.HasPrefix(paragraph, "#") {
			_, paragraph, _ = strings.Cut(paragraph, "\n")
		}
		query, want, _ := strings.Cut(paragraph, "\n")
		typ, name, _ := strings.Cut(query, " ")
		t.Run(query, func(t *testing.T) {
			for _, network := range []string{"udp4", "tcp4", "udp6", "tcp6"} {
				if diff := cmp.Diff(want+"\n", n.answer(network, typ, name)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", network, diff)
				}
			}
		})
	}
}

func TestAPIServerAway(t *testing.T) {
	api := newAPIServer(t, smallCluster)
	api.stop()
	c := testConfig(t, api.kubeconfig)
	c.Upstreams = []string{newUpstream(t, "www.example.org. 300 IN A 192.0.2.80").addr}
	n := run(t, c)

	const name = "web.default.svc.cluster.local."
	for _, query := range []struct{ typ, name, want string }{
		{"A", name, "SERVFAIL aa\n"},
		{"PTR", "20.0.96.10.in-addr.arpa.", "SERVFAIL aa\n"},
		{"A", "www.example.org.", "NOERROR\nwww.example.org.\t30\tIN\tA\t192.0.2.80\n"},
	} {
		if got := n.answer("udp4", query.typ, query.name); got != query.want {
			t.Errorf("while the API server is away, %s %s is answered %q, want %q", query.typ, query.name, got, query.want)
		}
	}
	api.start()
	<-n.synced
	if got := n.answer("udp4", "A", name); got != webAnswer {
		t.Errorf("after it came, the answer is %q, want %q", got, webAnswer)
	}
	api.stop()
	if got := n.answer("udp4", "A", name); got != webAnswer {
		t.Errorf("after it went, the answer is %q, want %q", got, webAnswer)
	}
	api.set(strings.ReplaceAll(strings.Split(smallCluster, "\n---\n")[1], "10.96.0.20", "10.96.0.30"))
	api.start()
	await.Until(t, func() error {
		want := strings.ReplaceAll(webAnswer, "10.96.0.20", "10.96.0.30")
		if got := n.answer("udp4", "A", name); got != want {
			return fmt.Errorf("after it came back, the answer is %q, want %q", got, want)
		}
		return nil
	})
}

func TestRunAgain(t *testing.T) {
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	for range 2 {
		n := run(t, c)
		<-n.synced
		if got := n.answer("tcp6", "A", "web.default.svc.cluster.local."); got != webAnswer {
			t.Errorf("the answer is %q, want %q", got, webAnswer)
		}
		other := testConfig(t, c.Kubeconfig)
		if err := Run(t.Context(), other, func() { t.Error("a second server is ready") }); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("a second server beside the first: %v, want: it runs already", err)
		}
		n.stop()
		for _, l := range c.Listen {
			if err := probe(t.Context(), l); err != nil {
				t.Errorf("after the end: %v", err)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	good := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no address", func(c *Config) { c.Listen = nil }, "no address to answer on"},
		{"no port", func(c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")} }, "name one, as in"},
		{"any address", func(c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("[::]:5353")} }, "name one, as in"},
		{"an address twice", func(c *Config) { c.Listen = []netip.AddrPort{c.Listen[0], c.Listen[0]} }, "listed twice"},
		{"an address of nobody", func(c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5353")} }, "no device of this node has the address"},
		{"domain", func(c *Config) { c.Domain = "cluster local {" }, "lowercase RFC 1123"},
		{"no ranges", func(c *Config) { c.PodCIDRs = nil }, "set both"},
		{"no kubeconfig", func(c *Config) { c.Kubeconfig = "" }, "set its path"},
		{"kubeconfig is missing", func(c *Config) { c.Kubeconfig = "/nonexistent/kubeconfig" }, "/nonexistent/kubeconfig: no such file or directory"},
		{"kubeconfig is broken", func(c *Config) { c.Kubeconfig = writeFile(t, "broken", "clusters: 5") }, "read kubeconfig"},
		{"upstream name", func(c *Config) { c.Upstreams = []string{"dns.example.org"} }, "write it as in 192.0.2.53"},
		{"upstream nowhere", func(c *Config) { c.Upstreams = []string{"0.0.0.0"} }, "write its own address"},
		{"upstream is itself", func(c *Config) { c.Upstreams = []string{c.Listen[0].String()} }, "this cluster DNS, and would ask itself"},
		{"upstream is the service", func(c *Config) { c.Upstreams = []string{"10.96.0.10"} }, "an address of a service (10.96.0.0/12)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good
			c.Listen = slices.Clone(good.Listen)
			test.change(&c)
			err := Run(t.Context(), c, func() { t.Error("it is ready") })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Run: %v, want: %s", err, test.want)
			}
		})
	}
}

func TestPortTaken(t *testing.T) {
	c := testConfig(t, newAPIServer(t, smallCluster).kubeconfig)
	for _, test := range []struct {
		want   string
		listen func(addr string) (interface{ Close() error }, error)
	}{
		{"by UDP: address already in use", func(a string) (interface{ Close() error }, error) { return net.ListenPacket("udp", a) }},
		{"by TCP: address already in use", func(a string) (interface{ Close() error }, error) { return net.Listen("tcp", a) }},
	} {
		taken, err := test.listen(c.Listen[1].String())
		if err != nil {
			t.Fatal(err)
		}
		err = Run(t.Context(), c, func() { t.Error("it is ready") })
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "give cluster DNS another port") {
			t.Errorf("Run: %v, want: %s, and a remedy", err, test.want)
		}
		taken.Close()
	}
}
