// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/intent/kube"
	"github.com/waggle-net/waggle/internal/config"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// clusterConfig is that of a node whose ranges the cluster gives.
func clusterConfig(t *testing.T) *config.Config {
	c := config.Default()
	c.NodeName = "node1"
	c.StateDir = t.TempDir()
	c.ClusterCIDRs = prefixes("10.244.0.0/16", "fd00:10:244::/48")
	c.Kubernetes.Kubeconfig = "/etc/waggle/kubeconfig"
	return c
}

// watched is a source of one node object.
func watched(t *testing.T, cidrs ...string) *clusterSource {
	t.Helper()
	nodes := fcache.NewFakeControllerSource()
	nodes.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Spec: corev1.NodeSpec{PodCIDRs: cidrs}})
	source := kube.New(kube.Config{
		NodeName: "node1",
		Nodes:    nodes, Pods: empty(), Services: empty(), EndpointSlices: empty(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, intent.NewState()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &clusterSource{Source: source}
}

func empty() cache.ListerWatcher { return fcache.NewFakeControllerSource() }

// The first start takes the ranges from the API, and every other one from its own
// memory: it must not need the API.
func TestPodCIDRsAreRemembered(t *testing.T) {
	want := prefixes("10.244.3.0/24", "fd00:10:244:3::/64")
	first := clusterConfig(t)
	d := &Daemon{cfg: first, log: slog.New(slog.DiscardHandler)}
	if err := d.usePodCIDRs(t.Context(), watched(t, "10.244.3.0/24", "fd00:10:244:3::/64")); err != nil {
		t.Fatal(err)
	}
	again := clusterConfig(t)
	again.StateDir = first.StateDir
	d.cfg = again
	away := &clusterSource{Source: kube.New(kube.Config{NodeName: "node1"})} // never run
	if err := d.usePodCIDRs(t.Context(), away); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.PodCIDRs, want) || !slices.Equal(again.PodCIDRs, want) {
		t.Errorf("at first %v, then %v, want %v", first.PodCIDRs, again.PodCIDRs, want)
	}
}

// What is remembered of another node, or is damaged, is not used.
func TestPodCIDRsOfAnother(t *testing.T) {
	for name, text := range map[string]string{
		"another node": `{"name":"node2","podCIDRs":["10.244.9.0/24"]}`,
		"damaged":      `{"name":"node1","podCIDRs":["10.244.9.0/2`,
		"no ranges":    `{"name":"node1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := clusterConfig(t)
			if err := os.WriteFile(cfg.NodeFile(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler)}
			if err := d.usePodCIDRs(t.Context(), watched(t, "10.244.3.0/24")); err != nil {
				t.Fatal(err)
			}
			known, err := readNode(cfg)
			if err != nil || known == nil || !slices.Equal(known.PodCIDRs, prefixes("10.244.3.0/24")) {
				t.Errorf("remembered is %+v (%v)", known, err)
			}
		})
	}
}

// Ranges that do not fit are refused, and not remembered.
func TestPodCIDRsOutside(t *testing.T) {
	cfg := clusterConfig(t)
	d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	err := d.usePodCIDRs(t.Context(), watched(t, "192.0.2.0/24"))
	if err == nil || !strings.Contains(err.Error(), "clusterCIDRs") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(cfg.NodeFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is remembered: %v", err)
	}
}

// A running daemon keeps its ranges, says so, and remembers the new ones.
func TestRangesChange(t *testing.T) {
	cfg := clusterConfig(t)
	cfg.PodCIDRs = prefixes("10.244.3.0/24", "fd00:10:244:3::/64")
	d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler), rangesFromCluster: true}
	d.checkRanges(&intent.Node{PodCIDRs: prefixes("fd00:10:244:3::/64", "10.244.3.0/24")})
	if len(d.problems.byPart) != 0 {
		t.Errorf("the same ranges in another order: %v", d.problems.byPart)
	}
	other := prefixes("10.244.4.0/24", "fd00:10:244:4::/64")
	d.checkRanges(&intent.Node{PodCIDRs: other})
	p := d.problems.byPart["ranges"]
	if !strings.Contains(p.Message, "10.244.4.0/24") || !strings.Contains(p.Remedy, "restart waggled") {
		t.Errorf("the problem is %+v", p)
	}
	if known, err := readNode(cfg); err != nil || known == nil || !slices.Equal(known.PodCIDRs, other) {
		t.Errorf("remembered is %+v (%v)", known, err)
	}
	d.checkRanges(&intent.Node{PodCIDRs: cfg.PodCIDRs})
	if len(d.problems.byPart) != 0 {
		t.Errorf("they came back: %v", d.problems.byPart)
	}
}
