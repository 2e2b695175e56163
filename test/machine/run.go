// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

// A Command is a program to run in the machine.
type Command = wire.Command

// A Result is how a command ended.
type Result struct {
	Code           int // exit code; 128 plus the signal when one ended it
	Stdout, Stderr string
}

// Run runs a program as root and waits for its end; ctx ends it, and all of its
// process group. An exit code is no error: see Output.
func (m *Machine) Run(ctx context.Context, name string, args ...string) (*Result, error) {
	return m.RunCommand(ctx, Command{Args: append([]string{name}, args...)})
}

// RunCommand is Run with input and environment.
func (m *Machine) RunCommand(ctx context.Context, c Command) (*Result, error) {
	answer, err := m.ask(ctx, &wire.Request{Run: &c})
	if err != nil {
		return nil, fmt.Errorf("run %s in the machine: %w", strings.Join(c.Args, " "), err)
	}
	return &Result{Code: answer.Code, Stdout: string(answer.Stdout), Stderr: string(answer.Stderr)}, nil
}

// Output runs a program that must succeed and returns what it prints.
func (m *Machine) Output(ctx context.Context, name string, args ...string) (string, error) {
	r, err := m.Run(ctx, name, args...)
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		return "", fmt.Errorf("run %s in the machine: exit code %d: %s",
			strings.Join(append([]string{name}, args...), " "), r.Code, strings.TrimSpace(r.Stderr+r.Stdout))
	}
	return r.Stdout, nil
}

// ReadFile returns the content of a file of the machine. Errors are those of
// os.ReadFile.
func (m *Machine) ReadFile(ctx context.Context, path string) ([]byte, error) {
	answer, err := m.ask(ctx, &wire.Request{Read: path})
	if err != nil {
		return nil, fmt.Errorf("read file of the machine: %w", err)
	}
	return answer.Data, nil
}

// WriteFile replaces a file of the machine, or makes it, in one step.
func (m *Machine) WriteFile(ctx context.Context, path string, data []byte, mode fs.FileMode) error {
	if _, err := m.ask(ctx, &wire.Request{Write: &wire.File{Path: path, Data: data, Mode: mode}}); err != nil {
		return fmt.Errorf("write file of the machine: %w", err)
	}
	return nil
}

// SetClock sets the machine's clock, which goes on from there over reboots and
// power cuts.
func (m *Machine) SetClock(ctx context.Context, to time.Time) error {
	if _, err := m.ask(ctx, &wire.Request{Clock: &to}); err != nil {
		return fmt.Errorf("set clock of the machine: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offset = time.Until(to)
	return nil
}

// Settle waits for the end of the boot: all of systemd's start jobs are done.
// It fails where units have.
func (m *Machine) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errTooSlow)
	defer cancel()
	r, err := m.Run(ctx, "systemctl", "is-system-running", "--wait")
	if err != nil || r.Code == 0 {
		return err
	}
	failed, err := m.Output(ctx, "systemctl", "--failed", "--no-legend", "--plain")
	if err != nil {
		return err
	}
	return fmt.Errorf("machine is %s: %s", strings.TrimSpace(r.Stdout), strings.TrimSpace(failed))
}

// Reboot shuts the machine down in order, boots it, and returns when the agent
// answers. A reboot by any other way is a machine that shuts itself down.
func (m *Machine) Reboot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errTooSlow)
	defer cancel()
	vm, err := m.running()
	if err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	// The agent may end before its answer is out, and the machine then does.
	if _, err := m.Output(ctx, "systemctl", "--no-block", "reboot"); err != nil && !vm.hasEnded() {
		return fmt.Errorf("reboot: %w", err)
	}
	if err := vm.awaitEnd(ctx); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	m.Kill() // what is left of it here
	return m.Boot(ctx)
}

// ask sends a request to the agent. An error of its system call is that of the
// machine: errors.Is(err, fs.ErrNotExist) tells a missing file.
func (m *Machine) ask(ctx context.Context, req *wire.Request) (*wire.Answer, error) {
	vm, err := m.running()
	if err != nil {
		return nil, err
	}
	answer, err := vm.call(ctx, req)
	if err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, &agentError{text: answer.Error, cause: answer.Errno}
	}
	return answer, nil
}

// An agentError is an error that happened in the machine.
type agentError struct {
	text  string
	cause error
}

func (e *agentError) Error() string { return e.text }
func (e *agentError) Unwrap() error { return e.cause }
