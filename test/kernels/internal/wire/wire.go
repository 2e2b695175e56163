// SPDX-License-Identifier: Apache-2.0

// Package wire is the contract between the host that boots a test kernel and
// the init program inside it: one JSON file going in, two lines
// coming out.
//
//	host ── /waggle/spec.json in the initramfs ──► init
//	host ◄── start line, payload output, report ── init   (second serial port)
//	host ── payload input, after the start line ─► init
package wire

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	// SpecPath is where init finds its Spec.
	SpecPath = "/waggle/spec.json"
	// PayloadPath is where init finds the program to run.
	PayloadPath = "/waggle/payload"
	// ModuleDir holds the kernel modules that Spec.Modules names.
	ModuleDir = "/waggle/modules"
	// Port carries the payload's input and output and init's report. The first
	// port is the kernel's console: sharing it would let printk cut lines.
	Port = "/dev/ttyS1"
	// GuestFlag on the kernel command line tells programs that they are inside
	// a test kernel and may rearrange its network.
	GuestFlag = "waggle.guest"
)

// A Spec tells init what to do.
type Spec struct {
	// Modules are file names in ModuleDir, dependencies first.
	Modules []string `json:"modules"`
	// Name is the payload's argument zero.
	Name string `json:"name"`
	// Args are the payload's arguments, without its name.
	Args []string `json:"args"`
	// Env is added to init's small environment.
	Env []string `json:"env"`
}

// StartPrefix begins the line that init prints just before the payload. From
// there on the port takes input: sent earlier it would be echoed or lost.
const StartPrefix = "waggle-guest: start: "

const (
	exitMark = "waggle-guest: exit "
	failMark = "waggle-guest: failed: "
)

// A Report is init's last word.
type Report struct {
	// ExitCode of the payload; 128 plus the signal when a signal ended it.
	ExitCode int
	// Failure is what kept init from running the payload, empty when it ran.
	Failure string
}

// String is the line init prints, without its newline.
func (r Report) String() string {
	if r.Failure != "" {
		return failMark + strings.ReplaceAll(r.Failure, "\n", " ")
	}
	return fmt.Sprintf("%s%d", exitMark, r.ExitCode)
}

// ParseReport splits a line into what the payload printed and the report that
// follows. A payload need not end its output with a newline, so the report may
// start anywhere in the line. It returns nil when the line holds no report.
func ParseReport(line string) (rest string, r *Report) {
	if i := strings.LastIndex(line, exitMark); i >= 0 {
		// Digits only: the end of a line cut short is not an exit code.
		code, err := strconv.ParseUint(line[i+len(exitMark):], 10, 8)
		if err == nil {
			return line[:i], &Report{ExitCode: int(code)}
		}
	}
	if rest, text, ok := strings.Cut(line, failMark); ok {
		return rest, &Report{Failure: text}
	}
	return line, nil
}

// InGuest reports whether this program runs inside a test kernel, for those
// that must never rearrange a real machine.
func InGuest() bool {
	cmdline, err := os.ReadFile("/proc/cmdline")
	return err == nil && slices.Contains(strings.Fields(string(cmdline)), GuestFlag)
}
