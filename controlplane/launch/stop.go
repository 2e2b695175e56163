// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/waggle-net/waggle/controlplane/install"
	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/runtime"
	"github.com/waggle-net/waggle/controlplane/supervise"
)

// Stopper stops a server that another process runs.
type Stopper struct {
	Layout layout.Layout
	BinDir string
	Log    *slog.Logger
}

// Server stops the server. Pods and the datapath stay. It is no error if none runs.
func (s *Stopper) Server(ctx context.Context) error {
	// systemd starts what it has started again, unless it is told.
	if stopped, err := install.StopService(ctx); stopped || err != nil {
		return err
	}
	return supervise.Stop(ctx, s.Layout, s.Log)
}

// All stops the server, all pods, and the datapath. Containers have the grace to end
// by themselves.
func (s *Stopper) All(ctx context.Context, grace time.Duration) error {
	if err := s.Server(ctx); err != nil {
		return err
	}
	// The pods end while the datapath still serves them, and their devices and
	// addresses are given back: before the processes that were left running for it.
	if err := s.stopPods(ctx, grace); err != nil {
		return err
	}
	return supervise.StopAll(ctx, s.Layout, s.Log)
}

// containerdStart is how long containerd may take to find its containers again.
const containerdStart = time.Minute

// stopPods runs containerd once more for it: it alone knows the pods, and how their
// networks are taken down.
func (s *Stopper) stopPods(ctx context.Context, grace time.Duration) error {
	config := s.Layout.Generated("containerd.toml")
	if _, err := os.Stat(config); errors.Is(err, os.ErrNotExist) {
		return nil // no server was ever started
	}
	process := runtime.Config{Layout: s.Layout, BinDir: s.BinDir}.Command(os.Environ())
	log, err := os.OpenFile(s.Layout.Log(containerdName), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("stop pods: %w", err)
	}
	defer log.Close()
	// Not by the context: it is to be ended in its own way.
	containerd := exec.Command(process.Path, process.Args...)
	containerd.Env, containerd.Stdout, containerd.Stderr = process.Env, log, log
	containerd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := containerd.Start(); err != nil {
		return fmt.Errorf("stop pods: start containerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- containerd.Wait()
		close(ended)
	}()
	defer func() {
		_ = containerd.Process.Signal(syscall.SIGTERM) // it may have ended
		for range ended {                              // how does not matter any more
		}
	}()
	if err := s.awaitContainerd(ctx, ended); err != nil {
		return fmt.Errorf("stop pods: %w (see %s)", err, log.Name())
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.BinDir, "waggle-kubernetes"),
		"ctr", "--data-dir", s.Layout.Data, "--run-dir", s.Layout.Run, "stop-all", "--grace", grace.String())
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("stop pods: %w", err)
	}
	return nil
}

func (s *Stopper) awaitContainerd(ctx context.Context, ended <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, containerdStart, errors.New("containerd was not ready in time"))
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if runtime.Ready(ctx, s.Layout) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			return fmt.Errorf("containerd ended: %w", err)
		case <-again.C:
		}
	}
}

// Cleanup takes the datapath off the kernel. Nothing may be running any more.
func (s *Stopper) Cleanup(ctx context.Context) error {
	config := s.Layout.DaemonConfig()
	if _, err := os.Stat(config); errors.Is(err, os.ErrNotExist) {
		return nil // waggled was never started
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.BinDir, "waggled"), "cleanup", "--config", config)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("remove the datapath: %w", err)
	}
	return nil
}
