// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/lab"
)

// generatorEnv marks this test binary, run again, as a load generator.
const generatorEnv = "WAGGLE_BENCH_GENERATOR"

func TestMain(m *testing.M) {
	if os.Getenv(generatorEnv) == "" {
		os.Exit(m.Run())
	}
	if err := generator(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var attach = flag.String("bench.attach", "auto", "how the daemon attaches programs to devices: auto, tcx or tc")

// node brings up a lab of one node with a daemon. Released addresses are given
// out again at once: a benchmark adds more pods than a node has addresses.
func node(b *testing.B) *lab.Host {
	b.Helper()
	h := lab.ForTest(b, lab.Topology{Racks: []int{1}}).Host("node1")
	if _, err := h.StartWaggled(b.Context(), "ipam: {restTime: 0s}", "attach: "+*attach); err != nil {
		b.Fatal(err)
	}
	return h
}

// result makes a line of its own of what has been measured. The line's name is
// part of the benchmark's; metrics come in pairs of unit and value.
func result(b *testing.B, name string, metrics ...metric) {
	b.Run(name, func(b *testing.B) {
		b.ReportMetric(0, "ns/op") // an operation of the loop is nothing here
		for _, m := range metrics {
			b.ReportMetric(m.value, m.unit)
		}
	})
}

type metric struct {
	unit  string
	value float64
}

// spread is the median of the rounds, and their least and greatest value.
func spread(unit string, rounds []float64) []metric {
	s := slices.Sorted(slices.Values(rounds))
	return []metric{{unit, quantile(s, 0.5)}, {"min-" + unit, s[0]}, {"max-" + unit, s[len(s)-1]}}
}

// percentiles are those of single events.
func percentiles(events []time.Duration) []metric {
	ms := make([]float64, len(events))
	for i, e := range events {
		ms[i] = float64(e) / 1e6
	}
	slices.Sort(ms)
	return []metric{{"p50-ms", quantile(ms, 0.5)}, {"p99-ms", quantile(ms, 0.99)}, {"max-ms", ms[len(ms)-1]}, {"samples", float64(len(ms))}}
}

// quantile of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// waitFor waits for a condition, and fails with what it last lacked.
func waitFor(b *testing.B, condition func() error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := lab.Eventually(ctx, condition); err != nil {
		b.Fatal(err)
	}
}
