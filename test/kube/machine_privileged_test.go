// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/images"
	"github.com/waggle-net/waggle/test/machine"
)

// TestMachine installs the server on a stock Debian with systemd and cgroup v2. The
// steps follow each other on one machine, and end with the first that fails.
func TestMachine(t *testing.T) {
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

// guestFiles are a release, the tests' images and the reference plugins.
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
	for _, name := range []string{"waggle-kube", "waggle-kubernetes", "containerd", "containerd-shim-runc-v2", "ctr"} {
		files[path.Join("/opt/release", name)] = filepath.Join(bin, name)
	}
	for _, name := range []string{"bridge", "host-local", "portmap", "loopback"} {
		files[path.Join("/opt/cni/bin", name)] = filepath.Join("/usr/lib/cni", name)
	}
	return files
}

func (g *guest) testInstall() {
	g.settle()
	g.run("mkdir", "-p", "/etc/cni/net.d")
	if err := g.m.WriteFile(g.t.Context(), "/etc/cni/net.d/10-bridge.conflist", []byte(bridge), 0o644); err != nil {
		g.t.Fatal(err)
	}
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

func (g *guest) testReboot() {
	before := g.container()
	if err := g.m.Reboot(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.back(before, "kept", "renewed")
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
		"/etc/systemd/system/waggle-kube.service", "/etc/systemd/system/multi-user.target.wants/waggle-kube.service",
		"/etc/waggle/kube.yaml", "/usr/local/bin/waggle-kube", "/usr/local/lib/waggle-kube",
		"/var/lib/waggle-kube", "/run/waggle-kube",
		"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/kubepods.slice",
	} {
		if out, err := g.try("stat", gone); err == nil {
			g.t.Errorf("%s is left: %s", gone, out)
		}
	}
	for _, none := range []string{
		"grep -E 'waggle|kubelet|/run/netns|containerd' /proc/self/mountinfo",
		"pgrep -l '^(waggle-kube|containerd|runc|pause|agent$)'",
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
