// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/waggle-net/waggle/test/images"
)

// manyPods is how many pods a node is asked for at once.
const manyPods = 50

// BenchmarkPods asks a node for fifty pods at once, and reports how long each took from
// its creation to Ready, and its CNI ADD as waggled saw it; then the memory of what is
// always ours: the supervisor and waggled.
func BenchmarkPods(b *testing.B) {
	dir := b.TempDir()
	if err := images.Build(b.Context(), dir, images.DefaultBusybox); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c := newCluster(b)
		c.start(fmt.Sprintf("dataplane: {config: {bpfRoot: %q, cgroupRoot: %q, logLevel: debug}}", c.host.BPFRoot(), c.host.CgroupRoot()))
		c.ready()
		c.kube("image", "import", filepath.Join(dir, "agent.tar"))
		starts := c.startMany(b)
		report(b, "pod-start", starts)
		report(b, "cni-add", c.addTimes(b))
		pids, own := c.processes(), 0.0
		for _, name := range []string{"supervisor", "waggled"} {
			_, rss := memory(b, pids[name])
			b.Logf("%-12s %6.1f MiB RSS", name, rss)
			own += rss
		}
		b.ReportMetric(own, "own-RSS-MiB")
		c.kube("stop", "--all", "--grace", "1s")
	}
}

// startMany returns how long each pod of a deployment took until it was Ready.
func (c *cluster) startMany(b *testing.B) []time.Duration {
	b.Helper()
	watch := c.host.KubeCommand(b.Context(), "kubectl", "get", "pods", "--watch", "--output-watch-events", "-o", "json")
	out, err := watch.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = watch.Process.Kill() // it never ends by itself
		_ = watch.Wait()
	}()
	began := time.Now()
	c.kubectl("create", "deployment", "many", "--image="+images.Agent, fmt.Sprintf("--replicas=%d", manyPods))
	created, took := map[string]time.Time{}, []time.Duration{}
	decoder := json.NewDecoder(out)
	for len(took) < manyPods {
		var event struct{ Object corev1.Pod }
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			b.Fatalf("the watch ended after %d pods", len(took))
		} else if err != nil {
			b.Fatal(err)
		}
		at, known := created[event.Object.Name]
		if !known {
			created[event.Object.Name] = time.Now()
		} else if !at.IsZero() && podReady(&event.Object) {
			took = append(took, time.Since(at))
			created[event.Object.Name] = time.Time{} // counted
		}
	}
	b.ReportMetric(time.Since(began).Seconds()*1000, "all-pods-ms")
	return took
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

var addLine = regexp.MustCompile(`verb=ADD .* took=(\S+)`)

// addTimes are the times of the CNI ADDs in waggled's log.
func (c *cluster) addTimes(b *testing.B) (all []time.Duration) {
	b.Helper()
	log, err := os.ReadFile(c.data("log/waggled.log"))
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range addLine.FindAllSubmatch(log, -1) {
		d, err := time.ParseDuration(string(m[1]))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, d)
	}
	if len(all) < manyPods {
		b.Fatalf("%d ADDs are in the log of waggled, want %d", len(all), manyPods)
	}
	return all
}

// report reports the median and the 99th percentile, in milliseconds.
func report(b *testing.B, what string, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(all)))) - 1
		return float64(all[i].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.5), what+"-p50-ms")
	b.ReportMetric(at(0.99), what+"-p99-ms")
}
