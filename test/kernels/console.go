// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/waggle-net/waggle/test/internal/qemu"
	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

// A console merges the guest's two serial ports, the kernel's and the
// payload's, into one stream of whole lines, and remembers what decides the
// outcome.
type console struct {
	out io.Writer
	// started is called once, at init's start line. Optional.
	started func()

	mu     sync.Mutex
	tail   qemu.Tail
	panic  string       // first line of a kernel panic
	report *wire.Report // init's last word
	err    error        // first failure to write to out
}

// kernelPort takes the first serial port: firmware and kernel messages.
func (c *console) kernelPort() *qemu.Lines { return &qemu.Lines{Each: c.kernelLine} }

// payloadPort takes the second serial port: the payload's output and init's
// report.
func (c *console) payloadPort() *qemu.Lines { return &qemu.Lines{Each: c.payloadLine} }

func (c *console) kernelLine(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panic == "" && strings.Contains(line, "Kernel panic - not syncing") {
		c.panic = line
	}
	c.printLocked(line)
}

func (c *console) payloadLine(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started != nil && strings.HasPrefix(line, wire.StartPrefix) {
		c.started()
		c.started = nil
	}
	rest, report := wire.ParseReport(line)
	if report != nil {
		c.report = report
		if rest == "" {
			return
		}
	}
	c.printLocked(rest)
}

// printLocked passes one line on. A writer that fails does not stop the guest:
// the outcome is still worth having.
func (c *console) printLocked(line string) {
	c.tail.Add(line)
	if c.err == nil {
		_, c.err = io.WriteString(c.out, line+"\n")
	}
}

// result says how the run ended. It is called once both ports are closed.
func (c *console) result() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.panic != "":
		return 0, fmt.Errorf("kernel panicked: %s%s", c.panic, &c.tail)
	case c.report == nil:
		return 0, fmt.Errorf("guest ended without an exit line%s", &c.tail)
	case c.report.Failure != "":
		return 0, fmt.Errorf("guest init: %s%s", c.report.Failure, &c.tail)
	case c.err != nil:
		return 0, fmt.Errorf("write output: %w", c.err)
	}
	return c.report.ExitCode, nil
}

func (c *console) tailText() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tail.String()
}
