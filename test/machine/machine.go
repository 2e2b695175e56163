// SPDX-License-Identifier: Apache-2.0

// Package machine gives tests a whole machine: stock Debian 12 under QEMU, with
// systemd, a disk that is its own to write on, a clock that may be moved, a
// reboot, and a power cord that may be pulled.
//
//	apt archive ──► Debian, kernel's modules ──► root image ──► disk ──► QEMU
//	                                             (cached)         ▲        ▲
//	Options.Files, agent ─────────────────────────────────────────┘        │
//	Run, ReadFile, WriteFile, SetClock, Reboot ── requests, answers ── agent
//
// Nothing it does reaches the machine it runs on, and it ends with the process
// that started it.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/internal/program"
	"github.com/waggle-net/waggle/test/kernels"
	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

// Options say which machine. The zero value is one without a network card.
type Options struct {
	// Kernel is the series of Debian's cloud kernel to boot. Optional: 6.12.
	Kernel    string
	MemoryMiB int // optional: 2048
	// CPUs is optional: 1. With more, QEMU's emulation runs them in threads, and one
	// may execute half of an instruction that the kernel is patching on another: the
	// kernel then panics, rarely, with an invalid opcode where a static key is.
	CPUs int
	// Network adds eth0, with the addresses IPv4 and IPv6, and default routes
	// that lead nowhere.
	Network bool
	// Files are put on the disk before the first boot, owned by root and with
	// the mode they have here: guest path to host path. A folder stands for the
	// files in it. Optional.
	Files map[string]string
	// Log gets the lines of the console while they appear. Optional.
	Log io.Writer
}

func (o Options) withDefaults() Options {
	if o.Kernel == "" {
		o.Kernel = "6.12"
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 2048
	}
	if o.CPUs == 0 {
		o.CPUs = 1
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o
}

// patience is beyond what booting, or shutting down and booting, takes under
// emulation on a busy machine.
const patience = 10 * time.Minute

// A Machine is on or off. Its methods may be called from several goroutines.
type Machine struct {
	opts   Options
	kernel *kernels.Kernel
	disk   *os.File

	mu     sync.Mutex
	vm     *vm           // nil when off
	offset time.Duration // of the machine's clock from ours
}

// Start makes a machine with a fresh disk and boots it. The machine outlives
// ctx: call Close.
func Start(ctx context.Context, opts Options) (*Machine, error) {
	opts = opts.withDefaults()
	kernel, err := kernels.Fetch(ctx, opts.Kernel)
	if err != nil {
		return nil, err
	}
	image, err := rootImage(ctx, kernel, os.Stderr)
	if err != nil {
		return nil, err
	}
	disk, err := makeDisk(ctx, image, opts)
	if err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	m := &Machine{opts: opts, kernel: kernel, disk: disk}
	if err := m.Boot(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// ForTest starts a machine that ends with the test. Where the test fails, the
// end of the console is in its log.
func ForTest(t testing.TB, opts Options) *Machine {
	t.Helper()
	m, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.Console())
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// makeDisk adds the agent and what the options ask for to the image.
func makeDisk(ctx context.Context, image string, opts Options) (*os.File, error) {
	dir, err := os.MkdirTemp("", "waggle-machine-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	agent, eth0 := filepath.Join(dir, "agent"), filepath.Join(dir, "eth0")
	if err := program.Build(ctx, agent, "test/machine/agent"); err != nil {
		return nil, err
	}
	files := map[string]string{wire.AgentPath: agent}
	if opts.Network {
		if err := os.WriteFile(eth0, []byte(network), 0o644); err != nil {
			return nil, err
		}
		files[networkPath] = eth0
	}
	maps.Copy(files, opts.Files)
	return newDisk(ctx, image, files)
}

// Boot turns a machine on, with the disk as it was left, and returns when its
// agent answers. The boot may go on: see Settle.
func (m *Machine) Boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errTooSlow)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.vm != nil {
		return errors.New("boot machine: it is on (Kill turns it off)")
	}
	vm, err := startVM(ctx, m)
	if err != nil {
		return fmt.Errorf("boot machine: %w", err)
	}
	if err := vm.awaitAgent(ctx); err != nil {
		vm.kill()
		return fmt.Errorf("boot machine: %w", err)
	}
	m.vm = vm
	return nil
}

var errTooSlow = fmt.Errorf("not within %s", patience)

// Kill pulls the power cord: what the guest has not written to its disk is
// lost. It does nothing to a machine that is off.
func (m *Machine) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.vm != nil {
		m.vm.kill()
		m.vm = nil
	}
}

// Close turns the machine off, if it is on, and drops its disk.
func (m *Machine) Close() error {
	m.Kill()
	if err := m.disk.Close(); err != nil {
		return fmt.Errorf("drop disk: %w", err)
	}
	return nil
}

// Console returns the last lines of the machine's console.
func (m *Machine) Console() string {
	vm, err := m.running()
	if err != nil {
		return err.Error()
	}
	return "machine's " + vm.console.text()[1:]
}

func (m *Machine) running() (*vm, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.vm == nil {
		return nil, errors.New("machine is off (Boot turns it on)")
	}
	return m.vm, nil
}
