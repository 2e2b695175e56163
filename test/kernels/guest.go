// SPDX-License-Identifier: Apache-2.0

// Package kernels runs a program inside a stock distribution kernel, so that
// each BPF program meets the verifiers and the network stacks that users have.
//
//	apt archive ──Fetch──► vmlinuz, modules ─┐
//	init (Go, static) ───────────────────────┼─► initramfs ──► QEMU ──► output, exit code
//	payload (Go, static), files, spec ───────┘
//
// The guest has no disk and no network card: nothing it does reaches the
// machine it runs on.
package kernels

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/waggle-net/waggle/test/internal/program"
	"github.com/waggle-net/waggle/test/internal/qemu"
)

// A Guest is one run of a payload in a kernel.
type Guest struct {
	Kernel  *Kernel           // required
	Payload string            // required: host path of a static ELF program
	Args    []string          // optional: the payload's arguments
	Env     []string          // optional: the payload's environment, as KEY=value
	Files   map[string]string // optional: guest path to host path
	Stdin   io.Reader         // optional: the payload's input
	// Modules are loaded before the payload starts, with their dependencies.
	// A leading "?" marks a module that this kernel may lack. Optional.
	Modules   []string
	MemoryMiB int           // optional: 1024
	Timeout   time.Duration // optional: 5 minutes, boot included
}

const (
	defaultMemoryMiB = 1024
	defaultTimeout   = 5 * time.Minute
)

func (g *Guest) memoryMiB() int {
	if g.MemoryMiB > 0 {
		return g.MemoryMiB
	}
	return defaultMemoryMiB
}

func (g *Guest) timeout() time.Duration {
	if g.Timeout > 0 {
		return g.Timeout
	}
	return defaultTimeout
}

// Run boots the kernel, runs the payload and returns its exit code. Whole lines
// of console and payload output go to out while they appear. A kernel panic, a
// guest that hangs and one that stops without an exit code are errors that
// quote the end of the console. QEMU is dead when Run returns.
func (g *Guest) Run(ctx context.Context, out io.Writer) (exitCode int, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	dir, err := os.MkdirTemp("", "waggle-kernel-")
	if err != nil {
		return 0, fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(dir)

	initramfs, err := g.buildInitramfs(ctx, dir)
	if err != nil {
		return 0, fmt.Errorf("build initramfs: %w", err)
	}
	code, err := g.boot(ctx, initramfs, out)
	if err != nil {
		return 0, fmt.Errorf("run on kernel %s: %w", g.Kernel.Release, err)
	}
	return code, nil
}

// buildInitramfs writes the guest's file system into dir.
func (g *Guest) buildInitramfs(ctx context.Context, dir string) (string, error) {
	init := filepath.Join(dir, "init")
	if err := program.Build(ctx, init, "test/kernels/init"); err != nil {
		return "", err
	}
	tree, err := openModuleTree(g.Kernel.ModulesDir)
	if err != nil {
		return "", err
	}
	modules, err := tree.resolve(ctx, g.Modules)
	if err != nil {
		return "", err
	}
	files, err := g.contents(init, modules)
	if err != nil {
		return "", err
	}
	f, err := os.Create(filepath.Join(dir, "initramfs.cpio"))
	if err != nil {
		return "", err
	}
	return f.Name(), errors.Join(writeInitramfs(f, files), f.Close())
}

// boot starts QEMU and follows both serial ports until it ends.
func (g *Guest) boot(ctx context.Context, initramfs string, out io.Writer) (int, error) {
	path, err := program.Find(qemu.Program)
	if err != nil {
		return 0, err
	}
	// Pdeathsig follows the thread that starts the child, so keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	started := make(chan struct{})
	con := &console{out: out, started: func() { close(started) }}
	kernelPort := con.kernelPort()
	cmd := qemu.Command(ctx, path, g.qemuArgs(qemu.Accelerator(ctx, path), initramfs))
	conn, child, err := qemu.SocketPair()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	cmd.ExtraFiles = []*os.File{child}
	// QEMU's own complaints belong between the kernel's lines.
	cmd.Stdout, cmd.Stderr = kernelPort, kernelPort
	start := time.Now()
	err = cmd.Start()
	child.Close() // or the port would never see QEMU's end close
	if err != nil {
		return 0, fmt.Errorf("start qemu: %w", err)
	}
	wait := g.attach(conn, con.payloadPort(), started)
	err = cmd.Wait()
	wait()
	kernelPort.Close()

	if err != nil && ctx.Err() != nil {
		return 0, fmt.Errorf("guest killed after %s: %w%s", time.Since(start).Round(time.Millisecond), ctx.Err(), con.tailText())
	}
	if err != nil {
		return 0, fmt.Errorf("run qemu: %w%s", err, con.tailText())
	}
	return con.result()
}

// attach connects the payload's port: its output to p and, once it has started,
// Stdin to it. The returned function waits until the output has ended.
func (g *Guest) attach(conn net.Conn, p *qemu.Lines, started <-chan struct{}) (wait func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// A reset is how a killed QEMU looks: the missing report says enough.
		io.Copy(p, conn)
		p.Close()
	}()
	if g.Stdin != nil {
		// A read from a terminal cannot be interrupted, so nobody waits for
		// this to end; it does when Stdin ends or conn is closed.
		go func() {
			select {
			case <-started:
				io.Copy(conn, g.Stdin)
			case <-ended:
			}
		}()
	}
	return func() { <-ended }
}
