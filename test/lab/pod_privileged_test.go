// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/lab"
)

func TestPodLife(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}, BinDir: fakeBin(t)})
	node := l.Host("node1")
	if _, err := node.StartWaggled(t.Context()); err != nil {
		t.Fatal(err)
	}
	pod, err := node.AddPod(t.Context(), lab.PodOptions{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if got := pod.Addr(true).String() + " " + pod.Addr(false).String(); got != "10.244.1.2 fd00:10:244:1::2" {
		t.Errorf("addresses %s", got)
	}
	if err := pod.Check(t.Context()); err != nil {
		t.Error(err)
	}
	out, err := pod.Run(t.Context(), "sh", "-c", "hostname; ls /sys/fs/cgroup >/dev/null; ls /run/netns; ip -br link; grep 0:: /proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"node1", pod.ContainerID, "LOOPBACK,UP", "node1/pods/" + pod.ContainerID} {
		if !strings.Contains(out, want) {
			t.Errorf("inside the pod, %q is missing from:\n%s", want, out)
		}
	}
	if strings.Contains(out, "eth0@") {
		t.Errorf("the pod sees the host's devices:\n%s", out)
	}
	server, err := pod.Start(t.Context(), "server", "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	again, err := node.Pod("default", "web")
	if err != nil || again.ContainerID != pod.ContainerID || again.Result == nil {
		t.Errorf("found again: %+v, %v", again, err)
	}
	if err := pod.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.Running() {
		if err := server.Wait(t.Context()); err == nil {
			t.Error("server ended by itself")
		}
	}
	if err := node.GC(t.Context()); err != nil {
		t.Error(err)
	}
	calls, _ := os.ReadFile(node.Dir() + "/run/calls")
	for _, verb := range []string{"ADD " + pod.NetNS, "CHECK " + pod.NetNS, "DEL " + pod.NetNS, "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"} {
		if !strings.Contains(string(calls), verb) {
			t.Errorf("plugin calls lack %q:\n%s", verb, calls)
		}
	}
	for _, gone := range []string{pod.NetNS, pod.CgroupRoot()} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
}

func TestAddPodFails(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{BinDir: fakeBin(t)})
	node := l.Host("node1")
	_, err := node.AddPod(t.Context(), lab.PodOptions{Name: "refuse"})
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "node1/refuse") {
		t.Errorf("got error %v", err)
	}
	if pods, err := node.Pods(); len(pods) != 0 || err != nil {
		t.Errorf("pods left: %v, %v", pods, err)
	}
	if names, _ := os.ReadDir(node.PodNetNSDir()); len(names) != 0 {
		t.Errorf("namespaces left: %v", names)
	}
	calls, _ := os.ReadFile(node.Dir() + "/run/calls")
	if !strings.Contains(string(calls), "DEL ") {
		t.Errorf("no DEL after failed ADD:\n%s", calls)
	}
}

func TestStartWaggledReportsWhy(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{BinDir: fakeBin(t)})
	node := l.Host("node1")
	_, err := node.StartWaggled(t.Context(), "bad: setting")
	if err == nil || !strings.Contains(err.Error(), "unknown setting bad") || !strings.Contains(err.Error(), "node1") {
		t.Errorf("got error %v", err)
	}
	p, err := node.StartWaggled(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.StartWaggled(t.Context()); err == nil {
		t.Error("started twice")
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestProcessSurvivesAndIsFound(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{})
	node := l.Host("node1")
	p, err := node.Start(t.Context(), "printer", "sh", "-c", "echo hello; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	awaitLog(t, p, "hello")
	other, err := lab.Open(l.Name)
	if err != nil {
		t.Fatal(err)
	}
	found, err := other.Host("node1").Process("printer")
	if err != nil || found.Pid != p.Pid || !found.Running() {
		t.Fatalf("found %+v, %v", found, err)
	}
	if err := found.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(ctx); err == nil {
		t.Error("a killed process ended well")
	}
	if again, err := other.Host("node1").Process("printer"); err != nil || again.Running() {
		t.Errorf("ended process: %+v, %v", again, err)
	}
	stubborn, err := node.Start(t.Context(), "stubborn", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done")
	if err != nil {
		t.Fatal(err)
	}
	awaitLog(t, stubborn, "ready")
	if err := stubborn.Stop(50 * time.Millisecond); err == nil {
		t.Error("Stop did not say that it had to kill")
	}
}

func awaitLog(t *testing.T, p *lab.Process, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := lab.Eventually(ctx, func() error {
		if !strings.Contains(p.Log(), text) {
			return fmt.Errorf("log of %s lacks %q", p.Name, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
