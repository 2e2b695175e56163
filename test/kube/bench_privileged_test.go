// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/images"
	"github.com/waggle-net/waggle/test/lab"
)

// idle is how long a cluster is left alone before its memory is read, and while its
// processors are watched.
const idle = time.Minute

// BenchmarkStart starts a server in an empty folder, and reports when the API server
// was ready, when the node, and how long the first pod took; then what each process
// costs when nothing happens. Memory is the proportional share (PSS): pages that two
// processes share count half in each.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	if err := images.Build(b.Context(), dir, images.DefaultBusybox); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c := newCluster(b)
		start := time.Now()
		server := c.start()
		b.ReportMetric(c.since(start, "readyz", func() error {
			if code, body := c.get("https://127.0.0.1:6443/readyz", ""); code != 200 {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		}), "readyz-ms")
		b.ReportMetric(c.since(start, "the node", func() error {
			out, err := c.tryKubectl("get", "node", c.host.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
			if err == nil && out != "True" {
				err = errors.New(out)
			}
			return err
		}), "node-ready-ms")
		c.ready()
		c.kube("image", "import", filepath.Join(dir, "agent.tar"))
		created := time.Now()
		c.kubectl("run", "first", "--image=waggle.dev/test/agent:1")
		b.ReportMetric(c.since(created, "the first pod", func() error {
			out, err := c.tryKubectl("get", "pod", "first", "-o", "jsonpath={.status.phase}")
			if err == nil && out != "Running" {
				err = errors.New(out)
			}
			return err
		}), "first-pod-ms")
		c.costs(b)
		c.kube("stop", "--all", "--grace", "1s")
		_ = server.Wait(b.Context())
		if err := lab.Down(context.Background(), c.host.Lab().Name); err != nil {
			b.Fatal(err)
		}
	}
}

// since waits for a condition and returns the milliseconds since start.
func (c *cluster) since(start time.Time, what string, condition func() error) float64 {
	c.t.Helper()
	c.eventually(what, condition)
	return float64(time.Since(start).Milliseconds())
}

// costs reports memory and processor time of each process while nothing happens.
func (c *cluster) costs(b *testing.B) {
	b.Helper()
	pids := c.processes()
	wait(b, idle)
	before := map[string]float64{}
	for name, pid := range pids {
		before[name] = cpuSeconds(b, pid)
	}
	wait(b, idle)
	var pss, cpu float64
	for name, pid := range pids {
		used := (cpuSeconds(b, pid) - before[name]) / idle.Seconds() * 100
		share, resident := memory(b, pid)
		b.Logf("%-14s %6.1f MiB PSS %6.1f MiB RSS %5.2f %% of a processor", name, share, resident, used)
		pss, cpu = pss+share, cpu+used
	}
	b.ReportMetric(pss, "PSS-MiB")
	b.ReportMetric(cpu, "idle-%cpu")
}

// wait lets time pass, as that is what is measured over.
func wait(b *testing.B, d time.Duration) {
	b.Helper()
	select {
	case <-time.After(d):
	case <-b.Context().Done():
		b.Fatal("interrupted")
	}
}

// memory is a process's proportional and resident memory in MiB (proc_pid_smaps(5)).
func memory(b *testing.B, pid int) (pss, rss float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "Pss:":
			pss = kib / 1024
		case "Rss:":
			rss = kib / 1024
		}
	}
	return pss, rss
}

// cpuSeconds is the processor time that a process has used (proc_pid_stat(5)), in
// ticks of a hundredth of a second.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name may have blanks in it, and ends with the last parenthesis.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks float64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}
