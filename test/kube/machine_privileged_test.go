// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/controlplane/launch"
	"github.com/waggle-net/waggle/test/images"
	"github.com/waggle-net/waggle/test/machine"
)

// TestMachine installs the server on a stock Debian with systemd and cgroup v2. The
// steps follow each other on one machine, and end with the first that fails.
func TestMachine(t *testing.T) {
	t.Parallel()
	m := machine.ForTest(t, machine.Options{Network: true, MemoryMiB: 3072, Files: guestFiles(t)})
	for _, step := range []struct {
		name string
		run  func(*guest)
	}{
		{"Install", (*guest).testInstall},
		{"Workload", (*guest).testWorkload},
		{"MovedClock", (*guest).testMovedClock},
		{"Reboot", (*guest).testReboot},
		{"PowerCut", (*guest).testPowerCut},
		{"Uninstall", (*guest).testUninstall},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			g := &guest{t, m}
			defer func() {
				if t.Failed() {
					g.logs()
				}
			}()
			start := time.Now()
			step.run(g)
			t.Logf("took %s", time.Since(start).Round(time.Second))
		}) {
			return
		}
	}
}

// guestFiles are a release and the tests' images.
func guestFiles(t *testing.T) map[string]string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := images.Build(t.Context(), dir, images.DefaultBusybox); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"/opt/images": dir}
	for _, name := range launch.Programs() {
		files[path.Join("/opt/release", name)] = filepath.Join(bin, name)
	}
	return files
}

func (g *guest) testInstall() {
	g.settle()
	g.t.Logf("check:\n%s", g.run(guestRelease, "check"))
	g.run(guestRelease, "install", "--now")
	g.ready()
	if got := g.run("systemctl", "is-enabled", "waggle-kube"); got != "enabled\n" {
		g.t.Errorf("the service is %q, want enabled", got)
	}
}

// testWorkload: a pod runs, in a cgroup that systemd made.
func (g *guest) testWorkload() {
	g.run(guestRelease, "image", "import", "/opt/images/busybox.tar", "/opt/images/agent.tar")
	g.kubectl("create", "configmap", "kept", "--from-literal=where=etcd")
	g.kubectl("run", "first", "--image="+images.Agent)
	g.wait("condition=Ready", "pod/first")
	g.kubectl("logs", "first")

	node := strings.TrimSpace(g.run("hostname"))
	config := g.kubectl("get", "--raw", "/api/v1/nodes/"+node+"/proxy/configz")
	if !strings.Contains(config, `"cgroupDriver":"systemd"`) {
		g.t.Errorf("the kubelet's configuration is without systemd's driver: %s", config)
	}
	if got := g.run("stat", "-f", "-c", "%T", "/sys/fs/cgroup"); got != "cgroup2fs\n" {
		g.t.Errorf("cgroups are %q, want version 2", got)
	}
	if got := g.run("systemctl", "is-active", "kubepods.slice"); got != "active\n" {
		g.t.Errorf("the slice of pods is %q, want active", got)
	}
	// A pod with its containers is what its slice has scopes of.
	if got := g.run("sh", "-c", "find /sys/fs/cgroup/kubepods.slice -name '*.scope' | wc -l"); got != "2\n" {
		g.t.Errorf("there are %q scopes below the slice of pods, want the sandbox's and the container's", got)
	}
	g.settle()
}

// testMovedClock: certificates are renewed when their time comes, and whoever uses
// them takes the new ones without a restart: past the end of the old, both sides of
// all connections are refused unless they have.
func (g *guest) testMovedClock() {
	pod, processes := g.container(), g.processes()
	old := g.leaves()
	end := old["apiserver.pem"].NotAfter
	g.setClock(end.AddDate(0, 0, -15))
	var renewed map[string]*x509.Certificate
	g.eventually("the certificates", func() error {
		var errs []error
		renewed = g.leaves()
		for name, before := range old {
			after := renewed[name]
			if after == nil || after.SerialNumber.Cmp(before.SerialNumber) == 0 {
				errs = append(errs, fmt.Errorf("%s is still that which ends at %s", name, before.NotAfter))
			}
		}
		return errors.Join(errs...)
	})
	for name, c := range renewed {
		if want := end.AddDate(0, 10, 0); c.NotAfter.Before(want) {
			g.t.Errorf("%s, renewed, ends at %s, want after %s", name, c.NotAfter, want)
		}
	}

	g.setClock(end.AddDate(0, 0, 2))
	g.ready()
	// A request may meet a connection that is closed for its old certificate.
	for _, args := range [][]string{
		{"logs", "first"}, // the kubelet's own, and that which it is asked with
		{"create", "configmap", "renewed", "--from-literal=where=etcd"},
		{"run", "second", "--image=" + images.Agent}, // scheduler, controllers and kubelet
	} {
		g.eventually("kubectl "+strings.Join(args, " "), func() error {
			_, err := g.try(append([]string{guestRelease, "kubectl"}, args...)...)
			return err
		})
	}
	g.wait("condition=Ready", "pod/second")
	if now := g.container(); now != pod {
		g.t.Errorf("the pod's container was %q and is %q", pod, now)
	}
	if now := g.processes(); now != processes {
		g.t.Errorf("processes were\n%sand are\n%s", processes, now)
	}
}

// testReboot: the pods end in order and before what they need does, the one that
// minds no signal after its time, and all that are to run do so again.
func (g *guest) testReboot() {
	g.run("mkdir", "-p", "/var/log/journal") // which has journald keep it
	g.run("journalctl", "--flush")
	g.apply(shutdownPods)
	for _, pod := range []string{"stubborn", "once"} {
		g.wait("condition=Ready", "pod/"+pod)
	}
	before := g.container()
	if err := g.m.Reboot(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.back(before, "kept", "renewed")
	g.expectShutdown(g.run("journalctl", "--boot=-1", "--output=short-monotonic", "--no-pager"))

	g.wait("condition=Ready", "pod/stubborn")
	g.eventually("what became of the pod that runs once", func() error {
		out, err := g.try(guestRelease, "kubectl", "get", "pod", "once", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}")
		if err == nil && out != "Succeeded 0" {
			err = fmt.Errorf("it is %q, want Succeeded 0: it ended when it was told to, and is not to run again", out)
		}
		return err
	})
	g.kubectl("delete", "--now", "pod", "stubborn", "once")
}

// expectShutdown looks at the journal of a boot from its end: nothing was left for
// systemd to kill, and nothing taken away while it was needed.
func (g *guest) expectShutdown(journal string) {
	g.t.Helper()
	lines := strings.Split(journal, "\n")
	last := -1
	for _, want := range []string{
		"Stopped waggle-kube.service", // or it would start pods again
		"Pods stopped: 4",
		"Stopped waggle-kube-shutdown.service",
		"Stopped target network.target",
		"Unmounting var-lib-waggle", // volumes of pods
		"Reached target shutdown.target",
	} {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, want) })
		switch {
		case i < 0:
			g.t.Errorf("the journal has no %q", want)
		case i < last:
			g.t.Errorf("the journal has %q before\n%s", lines[i], lines[last])
		}
		last = max(last, i)
	}
	for _, line := range lines {
		if strings.Contains(line, "Stopping timed out") || strings.Contains(line, "with signal SIGKILL") {
			g.t.Errorf("the journal has %q", line)
		}
	}
	if g.t.Failed() {
		g.t.Logf("the journal ends\n%s", strings.Join(lines[max(0, len(lines)-150):], "\n"))
	}
}

// testPowerCut: what the API has answered is on the disk.
func (g *guest) testPowerCut() {
	before := g.container()
	g.kubectl("create", "configmap", "written", "--from-literal=where=etcd")
	g.m.Kill()
	if err := g.m.Boot(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.back(before, "kept", "renewed", "written")
}

// back expects that everything came up by itself.
func (g *guest) back(before string, objects ...string) {
	g.t.Helper()
	g.settle() // the service is ready, or else the boot is not over
	if got := g.run("systemctl", "is-active", "waggle-kube"); got != "active\n" {
		g.t.Errorf("the service is %q, want active", got)
	}
	g.ready()
	// What the API says of the pod is of before the boot until the kubelet has looked.
	g.eventually("the pod's new container", func() error {
		now, err := g.tryContainer()
		if err == nil && (now == before || !strings.HasSuffix(now, " true")) {
			err = fmt.Errorf("the container was %q and is %q", before, now)
		}
		return err
	})
	g.wait("condition=Ready", "pod/first")
	g.kubectl("logs", "first")
	g.kubectl(append([]string{"get", "configmap"}, objects...)...)
}

// testUninstall: nothing stays but what was there before.
func (g *guest) testUninstall() {
	g.t.Logf("uninstall:\n%s", g.run(guestRelease, "uninstall"))
	for _, gone := range []string{
		"/etc/systemd/system/waggle-kube-shutdown.service", "/etc/systemd/system/kubepods.slice.d", "/etc/systemd/system/kubepods-.slice.d",
		"/etc/systemd/system/waggle-kube.service", "/etc/systemd/system/multi-user.target.wants/waggle-kube.service",
		"/etc/waggle/kube.yaml", "/usr/local/bin/waggle-kube", "/usr/local/lib/waggle-kube",
		"/var/lib/waggle-kube", "/run/waggle-kube",
		"/etc/cni/net.d/10-waggle.conflist", "/opt/cni/bin/waggle-cni", "/sys/fs/bpf/waggle", "/run/waggle",
		"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/kubepods.slice",
	} {
		if out, err := g.try("stat", gone); err == nil {
			g.t.Errorf("%s is left: %s", gone, out)
		}
	}
	for _, none := range []string{
		"grep -E 'waggle|kubelet|/run/netns|containerd' /proc/self/mountinfo",
		"pgrep -l '^(waggle-kube|waggled|containerd|runc|pause|agent$)'",
		"ls -d /run/netns/*",
		"systemctl list-units --all --no-legend --plain 'waggle-kube*' 'kubepods*' 'cri-containerd*'",
	} {
		if out, err := g.try("sh", "-c", none); err == nil && out != "" {
			g.t.Errorf("%s: %s", none, out)
		}
	}
	g.run(guestRelease, "uninstall") // no harm in a second one
	g.settle()
}
