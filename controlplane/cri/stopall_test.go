// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestStopPods(t *testing.T) {
	n := newFilledNode(t)
	// None is answered before all were asked: they are stopped at the same time.
	var all sync.WaitGroup
	all.Add(3)
	n.arrived = func() { all.Done(); all.Wait() }

	stopped, err := StopPods(t.Context(), n.layout, 2500*time.Millisecond)
	if err != nil || stopped != 3 {
		t.Fatalf("got %d pods, error %v, want 3 and none", stopped, err)
	}
	calls := n.calls()
	for i := range 2 { // each step in whatever order, but one after the other
		slices.Sort(calls[3*i : 3*i+3])
	}
	if diff := cmp.Diff([]string{
		"stop(3) " + webNow, "stop(3) " + dnsNow, "stop(3) " + oddNow,
		"stopp " + webPod, "stopp " + dnsPod, "stopp " + oddPod,
	}, calls); diff != "" {
		t.Errorf("calls: -want +got:\n%s", diff)
	}

	if stopped, err := StopPods(t.Context(), n.layout, time.Second); err != nil || stopped != 0 {
		t.Errorf("again: got %d pods, error %v, want none of both", stopped, err)
	}
}

func TestStopPodsThatStay(t *testing.T) {
	n := newFilledNode(t)
	// Cured by its pod's end: nobody need know.
	n.refuse["stop(10) "+oddNow] = status.Error(codes.Unknown, "it is stuck")
	// Somebody was faster.
	n.refuse["stopp "+oddPod] = status.Error(codes.NotFound, "no such pod")
	n.refuse["stop(10) "+webNow] = status.Error(codes.Unknown, "kill: no answer")
	n.refuse["stopp "+webPod] = status.Error(codes.Unknown, "cni plugin failed: no space left on device")

	r := n.ctr(t, "stop-all", "--grace", "10s")
	if r.stdout != "Pods stopped: 2\n" {
		t.Errorf("printed %q", r.stdout)
	}
	want := `pod default/web-0 (a1b2c30000000) is left: stop container 11aa220000000: kill: no answer
stop: cni plugin failed: no space left on device`
	if r.err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, r.err.Error()); diff != "" {
		t.Errorf("error: -want +got:\n%s", diff)
	}

	clear(n.refuse)
	if stopped, err := StopPods(t.Context(), n.layout, 0); err != nil || stopped != 2 {
		t.Errorf("again: got %d pods, error %v, want 2 and none", stopped, err)
	}
}

func TestStopPodsIsBounded(t *testing.T) {
	n := newFilledNode(t)
	n.hang["stopp "+webPod] = true
	c, err := connect(quiet(t.Context()), n.layout)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(t.Context())
	s := stopping{client: c, failed: map[string][]error{}}
	done := s.step(quiet(t.Context()), "stop", []string{webPod}, time.Millisecond, c.runtime.StopPodSandbox)
	if len(done) != 0 {
		t.Errorf("%v are done", done)
	}
	left, err := s.pods(quiet(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	err = s.report(left)
	if want := "pod default/web-0 (a1b2c30000000) is left: stop: it took more than 1ms"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func TestStopPodsInterrupted(t *testing.T) {
	n := newFilledNode(t)
	n.hang["stop(3600) "+webNow] = true
	ctx, cancel := context.WithCancel(t.Context())
	n.arrived = cancel
	if _, err := StopPods(ctx, n.layout, time.Hour); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("got error %v, want that it was interrupted", err)
	}
}
