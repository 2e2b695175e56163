// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const in = `goos: linux
cpu: Some CPU
BenchmarkPath/rr-one-cpu/IPv4/bare-2  1000  100.0 %bare  20000 tx/s  100.0 max-%bare  21000 max-tx/s  100.0 min-%bare  19000 min-tx/s  0 B/op  0 allocs/op
BenchmarkPath/rr-one-cpu/IPv4/pod-2  1000  97.5 %bare  19500 tx/s  99.00 max-%bare  20000 max-tx/s  96.00 min-%bare  19000 min-tx/s  40.1 p50-us
BenchmarkPrograms/IPv4/to_pod-2  6  34.0 ns/op  36.0 max-ns  33.0 min-ns
BenchmarkPrograms/IPv4/to_pod-2  6  35.0 ns/op  36.0 max-ns  33.0 min-ns
BenchmarkCNI/add-2  1  60.5 max-ms  32.4 p50-ms  200 samples
PASS
ok  	example.com/x	1.0s
`

const want = `
### Path

| | tx/s | %bare | p50-us |
|---|---:|---:|---:|
| rr-one-cpu IPv4 bare | 20000 (19000-21000) | 100 (100-100) |  |
| rr-one-cpu IPv4 pod | 19500 (19000-20000) | 97.5 (96.0-99.0) | 40.1 |

### Programs

| | ns/op |
|---|---:|
| IPv4 to_pod | 35.0 (33.0-36.0) |

### CNI

| | p50-ms | max-ms | samples |
|---|---:|---:|---:|
| add | 32.4 | 60.5 | 200 |
`

func TestWrite(t *testing.T) {
	lines, cpu, err := parse(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if cpu != "Some CPU" {
		t.Errorf("cpu is %q", cpu)
	}
	var out strings.Builder
	if err := write(&out, lines); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseRejects(t *testing.T) {
	if _, _, err := parse(strings.NewReader("BenchmarkX-2 1 many ns/op\n")); err == nil {
		t.Error("no error for a value that is no number")
	}
}
