// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"log" //nolint:depguard // CoreDNS writes there
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // as the kubelet does
	"k8s.io/klog/v2"                                        //nolint:depguard // the kubelet logs there
)

func TestRedirectLog(t *testing.T) {
	std := log.Default()
	before, flags := std.Writer(), std.Flags()
	defer func() { std.SetOutput(before); std.SetFlags(flags) }()

	var other, ours bytes.Buffer
	std.SetOutput(&other)
	restore := redirectLog(slog.New(slog.NewTextHandler(&ours, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	std.SetFlags(0)
	std.Print("[INFO] plugin/errors: 2 example.org. A: i/o timeout")
	std.Print("[WARNING] two\nlines")
	std.SetFlags(log.LstdFlags | log.Lmicroseconds)
	std.Print("[ERROR] plugin/cache: [x] full")
	std.SetFlags(0)
	std.Print("http: TLS handshake error")
	std.Print("see [INFO] there")
	restore()
	std.Print("[INFO] after the end")

	wantOurs := `level=INFO msg=coredns message="2 example.org. A: i/o timeout" plugin=errors
level=WARN msg=coredns message="two\nlines"
level=ERROR msg=coredns message="[x] full" plugin=cache
`
	wantOther := "http: TLS handshake error\nsee [INFO] there\n[INFO] after the end\n"
	if diff := cmp.Diff(wantOurs, ours.String()); diff != "" {
		t.Errorf("our log (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantOther, other.String()); diff != "" {
		t.Errorf("the other output (-want +got):\n%s", diff)
	}
}

// TestProcessStaysTheKubelets: CoreDNS takes neither the kubelet's log nor its metrics.
func TestProcessStaysTheKubelets(t *testing.T) {
	var text bytes.Buffer
	state := klog.CaptureState()
	defer state.Restore()
	klog.LogToStderr(false)
	klog.SetOutput(&text)
	n := run(t, testConfig(t, newAPIServer(t, smallCluster).kubeconfig))
	<-n.synced
	n.answer("udp4", "A", "web.default.svc.cluster.local.")
	klog.InfoS("Syncing pod", "pod", "default/web")
	klog.Flush()
	if !strings.Contains(text.String(), `"Syncing pod" pod="default/web"`) {
		t.Errorf("klog's output is %q, want the message with its values", text.String())
	}

	requests := func(g prometheus.Gatherer, name string) bool {
		families, err := g.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name && len(f.GetMetric()) > 0 {
				return true
			}
		}
		return false
	}
	if !requests(legacyregistry.DefaultGatherer, "rest_client_requests_total") {
		t.Error("rest_client_requests_total is empty: CoreDNS was first to register with client-go")
	}
	for name, want := range map[string]bool{
		"coredns_dns_requests_total": true, "coredns_dns_responses_total": true, "coredns_cache_entries": true,
		"go_goroutines": false, "rest_client_requests_total": false,
	} {
		if got := requests(Gatherer(), name); got != want {
			t.Errorf("Gatherer has %s: %t, want %t", name, got, want)
		}
	}
}
