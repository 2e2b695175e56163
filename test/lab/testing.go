// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"hash/fnv"
)

// TB is the part of testing.TB that ForTest needs. With it, programs that import
// the lab do not import package testing.
type TB interface {
	Helper()
	Name() string
	Context() context.Context
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// ForTest brings a lab up for one test, and down at its end. Without a name, it
// gets one that depends on the test's: tests of different names can run side
// by side, and a leftover of an interrupted run is replaced by the next. If
// the test fails, the end of each process's log is printed.
func ForTest(t TB, topology Topology) *Lab {
	t.Helper()
	if topology.Name == "" {
		hash := fnv.New32a()
		hash.Write([]byte(t.Name()))
		topology.Name = fmt.Sprintf("t%07x", hash.Sum32()&0xfffffff)
	}
	l, err := Up(t.Context(), topology)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.logProcesses(t)
		}
		// The test's context has ended by now.
		if err := Down(context.Background(), l.Name); err != nil {
			t.Fatalf("%v", err)
		}
	})
	return l
}

func (l *Lab) logProcesses(t TB) {
	for _, h := range l.Hosts() {
		processes, err := h.Processes()
		if err != nil {
			t.Logf("%v", err)
		}
		for _, p := range processes {
			t.Logf("%s: %s (running: %v):\n%s", h.Name, p.Name, p.Running(), tail(p.LogPath, 0))
		}
	}
}
