// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/fake"
	"k8s.io/cri-streaming/pkg/streaming"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// now is the time of all tests.
var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// node is upstream's fake of a runtime on a socket, with what it lacks.
type node struct {
	*fake.RemoteRuntime
	layout  layout.Layout
	streams streaming.Server // answers exec, if set

	mu      sync.Mutex
	ended   []string // calls that end something, in their order, as "verb id"
	refuse  map[string]error
	hang    map[string]bool // these calls do not answer until the caller gives up
	arrived func()          // called when a container is to be stopped, if set
	answer  *runtimeapi.ExecSyncResponse
	asked   []*runtimeapi.ExecSyncRequest
}

// newNode serves until the test ends.
func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{
		RemoteRuntime: fake.NewFakeRemoteRuntime(), layout: newLayout(t),
		refuse: map[string]error{}, hang: map[string]bool{},
	}
	n.RuntimeService.FakeStatus = &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"},
	}}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, n)
	runtimeapi.RegisterImageServiceServer(server, n)
	serve(t, n.layout, server)
	return n
}

// newLayout has a short path: that of a socket is limited.
func newLayout(t *testing.T) layout.Layout {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := layout.Layout{Data: filepath.Join(dir, "d"), Run: filepath.Join(dir, "r")}
	if err := os.MkdirAll(l.ContainerdState(), 0o700); err != nil {
		t.Fatal(err)
	}
	return l
}

func serve(t *testing.T, l layout.Layout, server *grpc.Server) {
	t.Helper()
	listener, err := net.Listen("unix", l.ContainerdSocket())
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
}

// result is what a command did.
type result struct {
	stdout, stderr string
	err            error
}

// ctr runs the command with these arguments.
func (n *node) ctr(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, n.layout, args...)
}

func run(t *testing.T, l layout.Layout, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	tool := &tool{
		now:   func() time.Time { return now },
		pause: func(context.Context, time.Duration) error { return nil },
		native: func(l layout.Layout, args []string) error {
			fmt.Fprintf(&stdout, "native, %s: %q\n", l.ContainerdSocket(), args)
			return nil
		},
	}
	cmd := tool.command()
	cmd.SetArgs(append([]string{"--data-dir", l.Data, "--run-dir", l.Run}, args...))
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err := cmd.ExecuteContext(t.Context())
	return result{stdout.String(), stderr.String(), err}
}

func (n *node) end(ctx context.Context, verb, id string) error {
	call := verb + " " + id
	n.mu.Lock()
	n.ended = append(n.ended, call)
	hang, err := n.hang[call], n.refuse[call]
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (n *node) calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.ended)
}

func (n *node) StopContainer(ctx context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	if n.arrived != nil {
		n.arrived()
	}
	if err := n.end(ctx, fmt.Sprintf("stop(%d)", r.Timeout), r.ContainerId); err != nil {
		return nil, err
	}
	return n.RemoteRuntime.StopContainer(ctx, r)
}

func (n *node) RemoveContainer(ctx context.Context, r *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	if err := n.end(ctx, "rm", r.ContainerId); err != nil {
		return nil, err
	}
	return n.RemoteRuntime.RemoveContainer(ctx, r)
}

func (n *node) StopPodSandbox(ctx context.Context, r *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	if err := n.end(ctx, "stopp", r.PodSandboxId); err != nil {
		return nil, err
	}
	return n.RemoteRuntime.StopPodSandbox(ctx, r)
}

func (n *node) RemovePodSandbox(ctx context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	if err := n.end(ctx, "rmp", r.PodSandboxId); err != nil {
		return nil, err
	}
	return n.RemoteRuntime.RemovePodSandbox(ctx, r)
}

func (n *node) ContainerStatus(ctx context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	resp, err := n.RemoteRuntime.ContainerStatus(ctx, r)
	if err == nil && r.Verbose {
		resp.Info = map[string]string{"info": `{"pid":4711,"removing":false}`, "note": "not <JSON>"}
	}
	return resp, err
}

func (n *node) PodSandboxStatus(ctx context.Context, r *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	resp, err := n.RemoteRuntime.PodSandboxStatus(ctx, r)
	if err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	return resp, nil
}

// ImageStatus knows an image by its id and by its names, as containerd does.
func (n *node) ImageStatus(ctx context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	list, err := n.RemoteRuntime.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	want := r.Image.Image
	if strings.HasPrefix(want, "!") {
		return nil, status.Error(codes.InvalidArgument, "invalid reference format")
	}
	for _, i := range list.Images {
		names := append(slices.Concat(i.RepoTags, i.RepoDigests), i.Id)
		if slices.Contains(names, want) || slices.Contains(names, "docker.io/library/"+want+":latest") {
			return &runtimeapi.ImageStatusResponse{Image: i}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (n *node) RemoveImage(ctx context.Context, r *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	if err := n.end(ctx, "rmi", r.Image.Image); err != nil {
		return nil, err
	}
	return n.RemoteRuntime.RemoveImage(ctx, r)
}

func (n *node) PullImage(_ context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	if strings.Contains(r.Image.Image, "absent") {
		return nil, status.Error(codes.NotFound, "registry.example/absent: not found")
	}
	return &runtimeapi.PullImageResponse{ImageRef: "sha256:" + strings.Repeat("7", 64)}, nil
}

func (n *node) ExecSync(_ context.Context, r *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, r)
	if n.answer == nil {
		return nil, status.Error(codes.Unknown, "container is in CONTAINER_EXITED state")
	}
	return n.answer, nil
}

func (n *node) Exec(_ context.Context, r *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if n.streams == nil {
		return nil, status.Error(codes.Unknown, "container is in CONTAINER_EXITED state")
	}
	return n.streams.GetExec(r)
}
