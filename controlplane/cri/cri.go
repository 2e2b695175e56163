// SPDX-License-Identifier: Apache-2.0

// Package cri looks at this node's pods, containers and images, and ends them, by
// asking containerd through the runtime's interface (CRI): what `waggle-kube ctr`
// does. It needs no API server, so it is of use where that is what is broken.
package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	remote "k8s.io/cri-client/pkg"

	"github.com/waggle-net/waggle/controlplane/layout"
)

const (
	// connectTimeout is for the first answer of a containerd whose socket accepts.
	connectTimeout = 10 * time.Second
	// callTimeout bounds each question: the kubelet's own bound, for containerd is
	// slow where the disk is.
	callTimeout = 2 * time.Minute
)

// ErrNotRunning says that no containerd answers on the node's socket.
var ErrNotRunning = errors.New("is the server running? start it with `waggle-kube server` or `systemctl start waggle-kube`")

// client asks containerd.
type client struct {
	runtime internalapi.RuntimeService
	images  internalapi.ImageManagerService
}

// connect returns once containerd has answered. The client must be closed.
func connect(ctx context.Context, l layout.Layout) (*client, error) {
	socket := l.ContainerdSocket()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := dial(ctx, socket); err != nil {
		return nil, err
	}
	runtime, err := remote.NewRemoteRuntimeService(ctx, "unix://"+socket, callTimeout, nil, false)
	if err != nil {
		return nil, notServing(l, err)
	}
	images, err := remote.NewRemoteImageService(ctx, "unix://"+socket, callTimeout, nil, false)
	if err != nil {
		_ = runtime.Close(ctx) // the other error is the one to tell
		return nil, notServing(l, err)
	}
	return &client{runtime: runtime, images: images}, nil
}

// dial tells why a socket cannot be used: gRPC wraps the reason in a text.
func dial(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("containerd does not answer at %s: %w", socket, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connect to containerd at %s: permission denied: run this as root", socket)
	}
	return fmt.Errorf("connect to containerd at %s: %w", socket, err)
}

// notServing is about a containerd that listens, but not for pods.
func notServing(l layout.Layout, err error) error {
	return fmt.Errorf("ask containerd at %s: %w: it may be starting still; see %s",
		l.ContainerdSocket(), plain(err), l.Log("containerd"))
}

func (c *client) close(ctx context.Context) {
	_ = c.runtime.Close(ctx) // nothing useful can be done
	_ = c.images.Close(ctx)
}

// quiet keeps the client's library from logging the errors that it returns.
func quiet(ctx context.Context) context.Context {
	return logr.NewContext(ctx, logr.Discard())
}

// grpcError is how gRPC's errors tell their code.
type grpcError interface {
	error
	GRPCStatus() *status.Status
}

// plain takes the words of the protocol out of an error of containerd's.
func plain(err error) error {
	var g grpcError
	if !errors.As(err, &g) {
		return err
	}
	switch s := g.GRPCStatus(); s.Code() {
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	case codes.Unimplemented:
		return fmt.Errorf("containerd does not serve pods: %s", s.Message())
	default:
		return errors.New(s.Message())
	}
}

// gone says that what was to be ended is not there any more.
func gone(err error) bool { return status.Code(err) == codes.NotFound }
