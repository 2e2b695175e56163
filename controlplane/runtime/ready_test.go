// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// fakeRuntime answers as containerd does, over gRPC itself.
type fakeRuntime struct {
	cri.UnimplementedRuntimeServiceServer
	err error
}

func (f fakeRuntime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "fake"}, f.err
}

func TestReady(t *testing.T) {
	for _, tt := range []struct {
		name     string
		register func(*grpc.Server)
		want     string
	}{
		{"serves", func(s *grpc.Server) { cri.RegisterRuntimeServiceServer(s, fakeRuntime{}) }, ""},
		{"not yet", func(s *grpc.Server) {
			cri.RegisterRuntimeServiceServer(s, fakeRuntime{err: status.Error(codes.Unavailable, "server is not initialized yet")})
		}, "server is not initialized yet (gRPC status 14)"},
		{"without CRI", func(*grpc.Server) {}, "gRPC status 12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := listenAsContainerd(t)
			server := grpc.NewServer()
			tt.register(server)
			listener, err := net.Listen("unix", l.ContainerdSocket())
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(listener) }()
			t.Cleanup(server.Stop)
			err = Ready(t.Context(), l)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Ready() = %v, want %q", err, tt.want)
			}
		})
	}
}

// listenAsContainerd makes the folder of the socket, at a path that is short enough.
func listenAsContainerd(t *testing.T) layout.Layout {
	t.Helper()
	run, err := os.MkdirTemp("", "wk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	l := layout.Layout{Run: run}
	if err := os.MkdirAll(filepath.Dir(l.ContainerdSocket()), 0o700); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestReadyOfNobody(t *testing.T) {
	l := listenAsContainerd(t)
	if err := Ready(t.Context(), l); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Ready() = %v, want %v", err, os.ErrNotExist)
	}
}

// Who does not speak HTTP/2 must not hold the question up.
func TestReadyEndsWithItsContext(t *testing.T) {
	l := listenAsContainerd(t)
	listener, err := net.Listen("unix", l.ContainerdSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			cancel()
			defer conn.Close()
			<-t.Context().Done()
		}
	}()
	if err := Ready(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready() = %v, want %v", err, context.Canceled)
	}
}
