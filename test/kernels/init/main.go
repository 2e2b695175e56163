// SPDX-License-Identifier: Apache-2.0

// Program init is process 1 of a test kernel. It mounts what a test expects,
// loads the modules it was given, runs the payload, reports the exit code and
// powers off. It is built static and has no flags: wire.Spec is its input.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: not process 1 of a test kernel")
		os.Exit(1)
	}
	// Process 1 must never return: the kernel would panic and hide the cause.
	defer powerOff()

	if err := mountAll(); err != nil {
		fmt.Println(wire.Report{Failure: err.Error()})
		return
	}
	port, err := openPort(wire.Port)
	if err != nil {
		fmt.Println(wire.Report{Failure: err.Error()})
		return
	}
	code, err := run(port)
	report := wire.Report{ExitCode: code}
	if err != nil {
		report.Failure = err.Error()
	}
	fmt.Fprintln(port, report)
	drain(port)
}

// run does what the spec says and returns the payload's exit code.
func run(port *os.File) (int, error) {
	b, err := os.ReadFile(wire.SpecPath)
	if err != nil {
		return 0, fmt.Errorf("read spec: %w", err)
	}
	var spec wire.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return 0, fmt.Errorf("parse spec: %w", err)
	}
	if err := loadModules(spec.Modules); err != nil {
		return 0, err
	}
	if err := showWarnings(); err != nil {
		return 0, err
	}
	release, uptime := strings.TrimSpace(readFile("/proc/sys/kernel/osrelease")), readFile("/proc/uptime")
	uptime, _, _ = strings.Cut(uptime, " ")
	fmt.Fprintf(port, wire.StartPrefix+"kernel %s, %d modules, %ss after boot\n", release, len(spec.Modules), uptime)
	return runPayload(port, spec)
}

// runPayload runs the payload on the port and waits for it.
func runPayload(port *os.File, spec wire.Spec) (int, error) {
	cmd := exec.Command(wire.PayloadPath, spec.Args...)
	cmd.Args[0] = spec.Name // a multi-call program looks at its name
	cmd.Env = append([]string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/", "TMPDIR=/tmp"}, spec.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = port, port, port
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	default:
		return 0, fmt.Errorf("run payload: %w", err)
	}
}

// openPort opens a serial port without line editing, echo or added carriage
// returns, so that bytes arrive on the host as the payload wrote them.
func openPort(path string) (*os.File, error) {
	port, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open port: %w", err)
	}
	tio, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("get settings of %s: %w", path, err)
	}
	tio.Iflag = 0
	tio.Oflag = 0
	tio.Lflag = 0
	// The shortest read: one byte, no timer.
	tio.Cc[unix.VMIN], tio.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, tio); err != nil {
		return nil, fmt.Errorf("set settings of %s: %w", path, err)
	}
	return port, nil
}

// drain waits until the port has sent everything: powering off with bytes in
// its queue would lose the report.
func drain(port *os.File) {
	// TCSBRK with a non-zero argument is tcdrain(3).
	if err := unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1); err != nil {
		fmt.Println("init: drain port:", err)
	}
}

func powerOff() {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("init: power off:", err)
	}
	// Returning would make the kernel panic, and so would select {}, in which Go
	// sees a deadlock.
	for {
		_ = unix.Pause() // returns only to be called again
	}
}

// readFile returns a file's text for a message, empty when unreadable.
func readFile(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
