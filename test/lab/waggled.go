// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	waggledProcess   = "waggled"
	waggledReadyTime = 60 * time.Second // loading programs on a busy machine
	logTailLines     = 30
)

// daemonConfig renders the configuration of waggled on this host. Lines of extra
// are appended as they are.
func (h *Host) daemonConfig(extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: waggle.dev/v1alpha1\nkind: DaemonConfig\n")
	fmt.Fprintf(&b, "nodeName: %s\n", h.Name)
	fmt.Fprintf(&b, "podCIDRs: %s\n", flowList(h.PodCIDRs))
	fmt.Fprintf(&b, "clusterCIDRs: %s\n", flowList(ClusterCIDRs()))
	fmt.Fprintf(&b, "bpfRoot: %s\n", h.BPFRoot())
	fmt.Fprintf(&b, "cgroupRoot: %s\n", h.CgroupRoot())
	fmt.Fprintf(&b, "intentFile: /etc/waggle/intent.yaml\n")
	for _, line := range extra {
		fmt.Fprintln(&b, strings.TrimRight(line, "\n"))
	}
	return b.String()
}

// flowList renders a YAML list. Every item is quoted: a colon means something.
func flowList[T fmt.Stringer](items []T) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = fmt.Sprintf("%q", item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// WriteIntent replaces the host's /etc/waggle/intent.yaml in one step.
func (h *Host) WriteIntent(yaml string) error {
	return h.wrap("write intent", writeFileAtomic(h.intentPath(), []byte(yaml), 0o644))
}

func (h *Host) intentPath() string { return filepath.Join(h.Dir(), "etc/intent.yaml") }

// CNISocket is waggled's socket as reached from outside the host.
func (h *Host) CNISocket() string { return filepath.Join(h.Dir(), "run/cni.sock") }

// StartWaggled configures and starts the node daemon, and waits until it accepts
// CNI requests. If there is no intent yet, it gets one that knows the lab's nodes
// and no services. extraConfig holds further lines of its configuration.
func (h *Host) StartWaggled(ctx context.Context, extraConfig ...string) (*Process, error) {
	fail := func(err error) (*Process, error) { return nil, h.wrap("start waggled", err) }
	program := filepath.Join(h.lab.BinDir, "waggled")
	if _, err := os.Stat(program); err != nil {
		return fail(fmt.Errorf("find %s: %w", program, ErrNoBinary))
	}
	if _, err := os.Stat(h.intentPath()); errors.Is(err, fs.ErrNotExist) {
		if err := h.WriteIntent(h.lab.RenderIntent()); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(h.Dir(), "etc/waggled.yaml")
	if err := writeFileAtomic(config, []byte(h.daemonConfig(extraConfig...)), 0o644); err != nil {
		return fail(err)
	}
	logStart := fileSize(h.LogPath(waggledProcess))
	p, err := h.Start(ctx, waggledProcess, program, "run", "--config", "/etc/waggle/waggled.yaml")
	if err != nil {
		return nil, err
	}
	if err := h.awaitWaggled(ctx, p); err != nil {
		_ = p.Kill() // the first error is the one that helps
		return fail(fmt.Errorf("%w\n%s", err, tail(p.LogPath, logStart)))
	}
	return p, nil
}

// awaitWaggled waits until the process that was just started is the one that
// listens: a socket file left by its predecessor refuses connections.
func (h *Host) awaitWaggled(ctx context.Context, p *Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, waggledReadyTime, fmt.Errorf("not ready after %v", waggledReadyTime))
	defer cancel()
	return poll(ctx, 10*time.Millisecond, func() (bool, error) {
		if !p.Running() {
			if err := p.Wait(ctx); err != nil {
				return false, err
			}
			return false, errors.New("exited with status 0 before it was ready")
		}
		conn, err := net.Dial("unix", h.CNISocket())
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// tail returns the last lines that were written to a log after offset.
func tail(path string, offset int64) string {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) <= offset {
		return "(" + path + " is empty)"
	}
	lines := strings.Split(strings.TrimRight(string(data[offset:]), "\n"), "\n")
	if omitted := len(lines) - logTailLines; omitted > 0 {
		lines = append([]string{fmt.Sprintf("(%d lines omitted, all in %s)", omitted, path)}, lines[omitted:]...)
	}
	return strings.Join(lines, "\n")
}
