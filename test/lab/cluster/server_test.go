// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/preflight"
	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/test/lab"
)

// TestWarnings reads what `waggle-kube check` prints.
func TestWarnings(t *testing.T) {
	var table strings.Builder
	err := preflight.Render(&table, []preflight.Finding{
		{Level: preflight.OK, Name: "kernel", Message: "Linux 6.12"},
		{Level: preflight.Warn, Name: "swap", Message: "swap is on", Remedy: "swapoff -a"},
		{Level: preflight.Warn, Name: "network managers", Message: "NetworkManager runs", Remedy: "waggle-kube install"},
		{Level: preflight.Warn, Name: "limits", Message: "few instances", Remedy: "sysctl -w a=1"},
		{Level: preflight.Warn, Name: "limits", Message: "few files", Remedy: "ulimit"},
		{Level: preflight.Warn, Name: "firewall", Message: "there is one"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"warning: swap swap is on (swapoff -a)",
		"warning: limits few instances (sysctl -w a=1)",
		"warning: few files (ulimit)",
	}
	if diff := cmp.Diff(want, warnings(table.String())); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestServiceCIDRs(t *testing.T) {
	if got, want := fmt.Sprint(serviceCIDRs), fmt.Sprint(config.DefaultServiceCIDRs()); got != want {
		t.Errorf("service ranges are %s, those of waggle-kube %s", got, want)
	}
}

func TestExplain(t *testing.T) {
	s := &status{Components: map[string][]health.Component{"control-plane": {
		{Name: "etcd", State: health.Ready}, {Name: "apiserver", State: health.Starting, Message: "waits for etcd"}}}}
	for _, row := range []struct {
		child supervise.ChildStatus
		want  string
	}{
		{supervise.ChildStatus{Name: "control-plane", State: supervise.Starting, LastError: "no answer"},
			"control-plane is starting: apiserver is starting: waits for etcd"},
		{supervise.ChildStatus{Name: "node", State: supervise.Backoff, LastExit: "exit status 1"}, "node is backoff: exit status 1"},
		{supervise.ChildStatus{Name: "node", State: supervise.Starting, LastError: "bad flag\nusage"}, "node is starting: bad flag"},
		{supervise.ChildStatus{Name: "node", State: supervise.Waiting}, "node is waiting"},
	} {
		if got := s.explain(row.child); got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
	}
}

// A process that ends now and then is waited for; one that does so all the time is
// broken, and the reason is what its component said, not what was seen last.
func TestJudge(t *testing.T) {
	f := &failure{restarts: 7}
	child := supervise.ChildStatus{Name: "control-plane", State: supervise.Starting, Restarts: 7}
	for _, why := range []string{"apiserver is starting", "scheduler is failed: no such flag", "etcd is starting"} {
		if err := f.judge(child, why); !errors.As(err, new(pending)) || err.Error() != why {
			t.Errorf("got %v, want %s to be pending", err, why)
		}
	}
	child.Restarts += maxRestarts
	err := f.judge(child, "etcd is starting")
	if want := "start control-plane: it has ended 3 times: scheduler is failed: no such flag"; err == nil || errors.As(err, new(pending)) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSame(t *testing.T) {
	want := lab.Topology{Racks: []int{1}, Machine: true, Private: lab.KubePrivate()}
	have := want
	have.Name, have.MTU, have.BinDir = "lab", 1500, "/opt/bin"
	if !same(have, want) {
		t.Error("a lab with defaults filled in is another one")
	}
	for what, change := range map[string]func(*lab.Topology){
		"racks":   func(l *lab.Topology) { l.Racks = []int{1, 1} },
		"machine": func(l *lab.Topology) { l.Machine = false },
		"private": func(l *lab.Topology) { l.Private = nil },
	} {
		other := have
		if change(&other); same(other, want) {
			t.Errorf("%s: the same", what)
		}
	}
	want.BinDir = "/elsewhere"
	if same(have, want) {
		t.Error("other programs: the same")
	}
}
