// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/test/images"
	"github.com/waggle-net/waggle/test/lab"
)

// processes are the supervisor's and its children's ids, by name.
func (c *cluster) processes() map[string]int {
	c.t.Helper()
	pids, err := c.tryProcesses()
	if err != nil {
		c.t.Fatal(err)
	}
	return pids
}

func (c *cluster) tryProcesses() (map[string]int, error) {
	var s supervise.Status
	out, err := c.tryKube("status", "--json")
	// What follows the first value is said where not everything is ready.
	if json.NewDecoder(strings.NewReader(out)).Decode(&s) != nil {
		return nil, fmt.Errorf("status: %w: %s", err, out)
	}
	pids := map[string]int{"supervisor": s.PID}
	for _, child := range s.Children {
		pids[child.Name] = child.PID
	}
	return pids, nil
}

// containers are the ids of the containers that run, of pods that are told by name.
func (c *cluster) containers() string {
	c.t.Helper()
	return c.kubectl("get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}`)
}

// TestLife ends processes in every way, and looks whether pods notice.
func TestLife(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	server := c.up()
	c.kubectl("create", "deployment", "web", "--image=waggle.dev/test/agent:1", "--replicas=2")
	c.kubectl("rollout", "status", "deployment/web", fmt.Sprintf("--timeout=%v", patience))
	before := c.containers()
	same := func(t *testing.T, what string) {
		t.Helper()
		if after := c.containers(); after != before {
			t.Errorf("%s: containers were\n%sand are\n%s", what, before, after)
		}
	}
	step := func(name string, run func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			outer := c.t
			c.t = t
			defer func() { c.t = outer }()
			run(t)
			same(t, name)
		})
	}

	for _, name := range []string{"control-plane", "node", "containerd"} {
		step("kill -9 "+name, func(t *testing.T) {
			pid := c.processes()[name]
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			c.eventually("another "+name, func() error {
				if now := c.processes()[name]; now == pid || now == 0 {
					return fmt.Errorf("process %d", now)
				}
				return nil
			})
			c.ready()
		})
	}

	step("kill -9 supervisor", func(t *testing.T) {
		was := c.processes()
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		// Nobody looks after it now, and it works nevertheless.
		if _, err := c.tryKubectl("get", "pods"); err != nil {
			t.Errorf("without a supervisor: %v", err)
		}
		server = c.start()
		c.ready()
		now := c.processes()
		for _, name := range []string{"control-plane", "node", "containerd"} {
			if was[name] != now[name] {
				t.Errorf("%s was %d and is %d: it was not adopted", name, was[name], now[name])
			}
		}
	})

	step("second server", func(t *testing.T) {
		out, err := c.tryKube("server")
		if err == nil || !strings.Contains(out, fmt.Sprintf("another waggle-kube (pid %d) runs on this data folder", server.Pid)) {
			t.Errorf("a second server: %v\n%s", err, out)
		}
	})

	step("stop and start", func(t *testing.T) {
		// Something watches, as somebody always does.
		watch := c.host.Command(t.Context(), filepath.Join(c.bin, "waggle-kube"), "kubectl", "get", "pods", "--watch")
		if err := watch.Start(); err != nil {
			t.Fatal(err)
		}
		c.kube("stop")
		_ = watch.Process.Kill() // it may have ended with the watch
		_ = watch.Wait()
		c.eventually("the end of the supervisor", func() error {
			if server.Running() {
				return errors.New("it runs")
			}
			return nil
		})
		if n := shims(t, c); n < 2 {
			t.Errorf("%d shims run: the pods were stopped", n)
		}
		server = c.start()
		c.ready()
	})

	step("all at once", func(t *testing.T) {
		for _, pid := range c.processes() {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
		}
		_ = server.Wait(t.Context()) // killed, as it says
		server = c.start()
		c.ready()
	})

	step("another configuration", func(t *testing.T) {
		was := c.processes()
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		server = c.start("dns: {port: 10054}")
		c.eventually("the node's process", func() error {
			now, err := c.tryProcesses()
			if err == nil && (now["node"] == was["node"] || now["node"] == 0) {
				err = errors.New("it was adopted with its old configuration")
			}
			return err
		})
		c.ready()
		c.eventually("the port of DNS", func() error {
			got := c.kubectl("get", "endpointslices", "-n", "kube-system", "-o", "jsonpath={.items[*].ports[*].port}")
			if got != "10054 10054 10054 10054" {
				return fmt.Errorf("the endpoints have %s", got)
			}
			return nil
		})
	})

	t.Run("stop --all", func(t *testing.T) {
		c.kubectl("run", "once", "--restart=Never", "--image="+images.Agent)
		c.wait("condition=Ready", "pod/once")
		c.kube("stop", "--all", "--grace", "1s")
		if n := shims(t, c); n != 0 {
			t.Errorf("%d shims still run", n)
		}
		for _, dir := range []string{c.host.PodNetNSDir()} {
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 0 {
				t.Errorf("%s: %v %v", dir, entries, err)
			}
		}
		c.start()
		c.ready()
		c.kubectl("rollout", "status", "deployment/web", fmt.Sprintf("--timeout=%v", patience))
		c.eventually("what became of the pod that runs once", func() error {
			out, err := c.tryKubectl("get", "pod", "once", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}")
			if err == nil && out != "Succeeded 0" {
				err = fmt.Errorf("it is %q, want Succeeded 0: it ended when it was told to, and is not to run again", out)
			}
			return err
		})
	})

	t.Run("uninstall", func(t *testing.T) {
		c.kube("uninstall")
		for _, gone := range []string{c.data("pki"), c.data("etcd"), c.data("version.json")} {
			if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v", gone, err)
			}
		}
		if n := shims(t, c); n != 0 {
			t.Errorf("%d shims still run", n)
		}
		out, err := c.host.Run(t.Context(), "cat", "/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "/waggle-kube/") {
				t.Errorf("still mounted: %s", line)
			}
		}
		c.kube("uninstall") // nothing is left, and that is no error
	})
}

// shims counts the shims of the host's containers.
func shims(t *testing.T, c *cluster) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "^"+filepath.Join(c.bin, "containerd-shim-runc-v2")).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return 0 // none matches
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for pid := range strings.FieldsSeq(string(out)) {
		cgroup, err := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
		if err == nil && bytes.Contains(cgroup, []byte("/"+c.host.Lab().Name+"/")) {
			n++
		}
	}
	return n
}

// TestBadMachine: what is wrong is told in one message, and nothing is started.
func TestBadMachine(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	refused := func(t *testing.T, want ...string) {
		t.Helper()
		p := c.start()
		c.eventually("the end of the server", func() error {
			if p.Running() {
				return errors.New("it runs")
			}
			return nil
		})
		log := p.Log()
		for _, w := range want {
			if !strings.Contains(log, w) {
				t.Errorf("no %q in:\n%s", w, log)
			}
		}
		if entries, _ := filepath.Glob(filepath.Join(c.host.Dir(), "run/waggle-kube/process/*")); len(entries) != 0 {
			t.Errorf("started %v", entries)
		}
	}
	t.Run("port taken", func(t *testing.T) {
		holder, err := c.host.Start(t.Context(), "holder", "busybox", "nc", "-l", "-p", "6443")
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Kill()
		c.eventually("the holder", func() error {
			_, err := c.host.Run(t.Context(), "sh", "-c", "ss -Hltn sport = :6443 | grep -q .")
			return err
		})
		refused(t, "6443", "busybox", "apiserver.port")
	})
	t.Run("newer data folder", func(t *testing.T) {
		if err := os.WriteFile(c.data("version.json"), []byte(`{"layout": 99, "waggle": "v9", "kubernetes": "v1.99.0"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(c.data("version.json"))
		refused(t, "newer")
	})
	t.Run("unknown flag of a component", func(t *testing.T) {
		if err := os.MkdirAll(c.data("etcd"), 0o700); err != nil { // so that nothing but the flag is wrong below
			t.Fatal(err)
		}
		os.Remove(c.data("etcd"))
		p := c.start(`components: {scheduler: {no-such-flag: "1"}}`)
		defer stopServer(c, p)
		c.eventually("the message", func() error {
			out, err := c.tryKube("status")
			if err == nil || !strings.Contains(out, "scheduler has no flag --no-such-flag") {
				return fmt.Errorf("status (error %t): %s", err != nil, out)
			}
			return nil
		})
	})
}

func stopServer(c *cluster, p *lab.Process) {
	c.kube("stop")
	if err := p.Stop(30 * time.Second); err != nil && !slices.Contains([]string{"exit status 0"}, err.Error()) {
		c.t.Logf("stop: %v", err)
	}
}
