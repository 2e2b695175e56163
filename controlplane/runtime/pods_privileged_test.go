// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/waggle-net/waggle/controlplane/image"
	"github.com/waggle-net/waggle/test/await"
	"github.com/waggle-net/waggle/test/images"
)

func TestDetect(t *testing.T) {
	dir := t.TempDir()
	host, err := Detect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if host.Snapshotter == Native && host.NoOverlay == nil {
		t.Error("overlay is not used, without a reason")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Logf("%+v", host)
}

// Inside of a container, the data folder often is on overlay itself, which cannot
// be the upper layer of another.
func TestDetectWithoutOverlay(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(base, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)
	if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	snapshotter, reason, err := detectSnapshotter(dir)
	if err != nil {
		t.Fatal(err)
	}
	if snapshotter != Native || reason == nil {
		t.Errorf("detectSnapshotter() = %q, %v, want %q and a reason", snapshotter, reason, Native)
	}
}

// A plugin that gives an address and no device: what the pod then has is the
// loopback device, which containerd brings up itself.
const plugin = `#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
*) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"192.0.2.7/24","interface":0},{"address":"2001:db8::7/64","interface":0}]}' ;;
esac
`

func (n *node) addNetwork(t *testing.T) {
	t.Helper()
	mustWrite(t, filepath.Join(n.CNIBinDirs[0], "fake"), []byte(plugin))
	if err := os.Chmod(filepath.Join(n.CNIBinDirs[0], "fake"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(n.CNIConfDir, "10-fake.conflist"),
		[]byte(`{"cniVersion":"1.0.0","name":"fake","plugins":[{"type":"fake"}]}`))
	await.Until(t, func() error {
		status, err := n.runtime.Status(t.Context(), &cri.StatusRequest{})
		if err != nil {
			return err
		}
		for _, c := range status.Status.Conditions {
			if c.Type == "NetworkReady" && !c.Status {
				return fmt.Errorf("condition %s: %s", c.Type, c.Message)
			}
		}
		return nil
	})
}

func TestPodLivesThroughRestart(t *testing.T) {
	n := startNode(t, nil)
	n.importImages(t)
	n.addNetwork(t)
	p := n.runPod(t, &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}, "sleep", "100000")

	links, err := p.exec(t, "ip -o link show; hostname")
	if err != nil || !strings.Contains(links, "lo: <LOOPBACK,UP") || !strings.HasSuffix(links, "\npod\n") {
		t.Errorf("in the pod: %v:\n%s\nwant lo up and the pod's host name", err, links)
	}
	before := p.status(t)
	if got, want := before.Network.Ip, "192.0.2.7"; got != want {
		t.Errorf("address = %q, want %q", got, want)
	}
	// What containerd keeps is below the folders that are its own.
	for _, pattern := range []string{
		filepath.Join(n.ShimSockets(), "*"),
		filepath.Join(n.RuncRoot(), namespace, p.sandbox),
		filepath.Join(n.Layout.ContainerdState(), "*/netns/*"),
	} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) == 0 {
			t.Errorf("nothing at %s", pattern)
		}
	}
	for _, dir := range []string{"/run/containerd", "/run/netns"} {
		if exists("/", dir) {
			t.Errorf("there is a folder %s", dir)
		}
	}

	n.stop(t)
	n.start(t)
	if after := p.status(t); after.State != cri.PodSandboxState_SANDBOX_READY || after.CreatedAt != before.CreatedAt {
		t.Errorf("after a restart of containerd: %v, want what was there: %v", after, before)
	}
	if _, err := p.exec(t, "true"); err != nil {
		t.Errorf("after a restart of containerd: %v", err)
	}
}

func (p *pod) status(t *testing.T) *cri.PodSandboxStatus {
	t.Helper()
	r, err := p.n.runtime.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.sandbox})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

// Where a pod's containers share their process namespace, the pause program is
// process 1, and orphans are its children.
func TestPauseCollectsOrphans(t *testing.T) {
	n := startNode(t, nil)
	n.importImages(t)
	ns := &cri.NamespaceOption{Pid: cri.NamespaceMode_POD, Network: cri.NamespaceMode_NODE}
	p := n.runPod(t, ns, "sh", "-c", `sh -c 'sleep 100000 & echo $! >/tmp/orphan'; sleep 100000`)

	await.Until(t, func() error {
		_, err := p.exec(t, "test $(awk '/^PPid/ { print $2 }' /proc/$(cat /tmp/orphan)/status) = 1")
		return err
	})
	one, err := p.exec(t, "tr '\\0' ' ' </proc/1/cmdline; awk '/^Uid/ { print $2 }' /proc/1/status")
	if err != nil || one != "/pause 65535\n" {
		t.Errorf("process 1 is %q, %v, want the pause program as nobody", one, err)
	}
	if _, err := p.exec(t, "kill -9 $(cat /tmp/orphan)"); err != nil {
		t.Fatal(err)
	}
	await.Until(t, func() error {
		out, err := p.exec(t, "test ! -e /proc/$(cat /tmp/orphan) || cat /proc/$(cat /tmp/orphan)/status")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	})
	// A signal ends it, and so the pod.
	if _, err := p.exec(t, "kill -TERM 1"); err != nil {
		t.Fatal(err)
	}
	await.Until(t, func() error {
		if s := p.status(t).State; s != cri.PodSandboxState_SANDBOX_NOTREADY {
			return fmt.Errorf("sandbox is %s", s)
		}
		return nil
	})
}

func TestNativeSnapshotter(t *testing.T) {
	n := startNode(t, func(c *Config) { c.Host.Snapshotter = Native })
	n.importImages(t)
	ns := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}
	p := n.runPod(t, ns, "sleep", "100000")
	if out, err := p.exec(t, "echo x >/file && cat /file && grep ' / ' /proc/mounts"); err != nil || strings.Contains(out, "overlay") {
		t.Errorf("in the pod: %v:\n%s\nwant a root file system that is no overlay", err, out)
	}
}

func TestImagesArePinned(t *testing.T) {
	n := startNode(t, nil)
	n.importImages(t)
	await.Until(t, func() error {
		list, err := n.images.ListImages(t.Context(), &cri.ListImagesRequest{})
		if err != nil {
			return err
		}
		got := make(map[string]bool)
		for _, i := range list.Images {
			for _, tag := range i.RepoTags {
				got[tag] = i.Pinned
			}
		}
		want := map[string]bool{image.PauseName: true, images.Agent: false, images.Busybox: false}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("images (and whether pinned): %v, want %v", got, want)
		}
		return nil
	})
	// Once more, and pinned: as if the same archive had been put into place.
	i := n.importer()
	i.Pin = true
	imported, err := i.Import(t.Context(), archives(t)[1])
	if err != nil || fmt.Sprint(imported) != fmt.Sprintf("[{%s [%s]}]", archives(t)[1], images.Busybox) {
		t.Fatalf("Import() = %v, %v", imported, err)
	}
	await.Until(t, func() error {
		r, err := n.images.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: images.Busybox}})
		if err == nil && !r.Image.GetPinned() {
			err = fmt.Errorf("%v is not pinned", r.Image)
		}
		return err
	})
}
