// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/waggle-net/waggle/controlplane/image"
	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/test/await"
	"github.com/waggle-net/waggle/test/images"
)

// cgroupParent is where the pods of these tests are.
const cgroupParent = "/waggle-runtime-test"

// node is a machine with a containerd that runs.
type node struct {
	Config
	process *exec.Cmd
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
}

// startNode starts containerd with what is found here, changed by edit.
func startNode(t *testing.T, edit func(*Config)) *node {
	t.Helper()
	dir := t.TempDir()
	host, err := Detect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, programContainerd)); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	run, err := os.MkdirTemp("/run", "wk-")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Config: Config{
		Layout:     layout.Layout{Data: dir, Run: run},
		BinDir:     bin,
		Host:       host,
		PauseImage: image.PauseName,
		CNIBinDirs: []string{filepath.Join(dir, "cni/bin")},
		CNIConfDir: filepath.Join(dir, "cni/conf"),
	}}
	if edit != nil {
		edit(&n.Config)
	}
	if err := n.Write(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:"+n.Layout.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.runtime, n.images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)

	t.Cleanup(removeCgroups)
	n.start(t)
	t.Cleanup(func() {
		n.stop(t)
		if t.Failed() {
			log, err := os.ReadFile(n.log())
			t.Logf("containerd (%v):\n%s", err, log)
		}
	})
	return n
}

func (n *node) log() string { return filepath.Join(n.Layout.Data, "containerd.log") }

func (n *node) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := n.Command(os.Environ())
	n.process = exec.Command(p.Path, p.Args...)
	n.process.Env, n.process.Stdout, n.process.Stderr = p.Env, log, log
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	await.Until(t, func() error { return Ready(t.Context(), n.Layout) })
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := n.process.Wait(); err != nil {
		t.Errorf("containerd ended: %v", err)
	}
}

func (n *node) importer() Importer {
	return Importer{Layout: n.Layout, BinDir: n.BinDir, Snapshotter: n.Host.Snapshotter}
}

// importImages brings in the pause image and those for tests.
func (n *node) importImages(t *testing.T) {
	t.Helper()
	if err := n.importer().ImportPause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.importer().Import(t.Context(), archives(t)...); err != nil {
		t.Fatal(err)
	}
}

// archives builds the images for tests once.
func archives(t *testing.T) []string {
	t.Helper()
	dir := "/run/images"
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := images.Build(t.Context(), dir, images.DefaultBusybox); err != nil {
			t.Fatal(err)
		}
	}
	return []string{filepath.Join(dir, "agent.tar"), filepath.Join(dir, "busybox.tar")}
}

// removeCgroups removes the folders above the containers' own, which nobody else
// does.
func removeCgroups() {
	for _, parent := range []string{cgroupParent, "/" + namespace} {
		dirs, _ := filepath.Glob(cgroupRoot + "/*" + parent)
		for _, dir := range append(dirs, cgroupRoot+parent) {
			_ = os.Remove(dir) // some are not there
		}
	}
}

// ctr runs a command of containerd's, which must succeed.
func (n *node) ctr(t *testing.T, args ...string) string {
	t.Helper()
	p := Ctr(n.Layout, n.BinDir, os.Environ(), args...)
	cmd := exec.CommandContext(t.Context(), p.Path, p.Args...)
	cmd.Env = p.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// pod is a pod with one container of busybox.
type pod struct {
	n                  *node
	sandbox, container string
	config             *cri.PodSandboxConfig
}

func (n *node) runPod(t *testing.T, ns *cri.NamespaceOption, command ...string) *pod {
	t.Helper()
	p := &pod{n: n, config: &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "pod", Uid: "1", Namespace: "default"},
		LogDirectory: t.TempDir(),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    cgroupParent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: ns},
		},
	}}
	if ns.Network != cri.NamespaceMode_NODE {
		p.config.Hostname = "pod"
	}
	sandbox, err := n.runtime.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		t.Fatalf("run sandbox: %v", err)
	}
	p.sandbox = sandbox.PodSandboxId
	t.Cleanup(func() { p.remove(t) })
	container, err := n.runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{
		PodSandboxId: p.sandbox, SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "main"},
			Image:    &cri.ImageSpec{Image: images.Busybox},
			Command:  command,
			LogPath:  "main.log",
			Linux: &cri.LinuxContainerConfig{
				// As the kubelet asks it for the most important pods.
				Resources:       &cri.LinuxContainerResources{OomScoreAdj: -997, CpuShares: 2, MemoryLimitInBytes: 64 << 20},
				SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: ns},
			},
		},
	})
	if err != nil {
		t.Fatalf("create container: %v", err)
	}
	p.container = container.ContainerId
	if _, err := n.runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: p.container}); err != nil {
		t.Fatalf("start container: %v", err)
	}
	return p
}

// exec runs a shell's command in the container.
func (p *pod) exec(t *testing.T, command string) (string, error) {
	t.Helper()
	r, err := p.n.runtime.ExecSync(t.Context(), &cri.ExecSyncRequest{
		ContainerId: p.container, Cmd: []string{"sh", "-c", command}, Timeout: 10,
	})
	if err != nil {
		return "", err
	}
	if r.ExitCode != 0 {
		return string(r.Stdout), fmt.Errorf("%s: exit code %d: %s", command, r.ExitCode, r.Stderr)
	}
	return string(r.Stdout), nil
}

func (p *pod) remove(t *testing.T) {
	ctx := context.WithoutCancel(t.Context()) // it has ended
	if _, err := p.n.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Errorf("stop sandbox: %v", err)
	}
	if _, err := p.n.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Errorf("remove sandbox: %v", err)
	}
}
