// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

// tailLines is how much of the console an error quotes: a kernel oops with its
// call trace fits.
const tailLines = 60

// A console merges the guest's two serial ports, the kernel's and the
// payload's, into one stream of whole lines, and remembers what decides the
// outcome.
type console struct {
	out io.Writer
	// started is called once, at init's start line. Optional.
	started func()

	mu     sync.Mutex
	tail   []string
	panic  string       // first line of a kernel panic
	report *wire.Report // init's last word
	err    error        // first failure to write to out
}

// kernelPort takes the first serial port: firmware and kernel messages.
func (c *console) kernelPort() *port { return &port{line: c.kernelLine} }

// payloadPort takes the second serial port: the payload's output and init's
// report.
func (c *console) payloadPort() *port { return &port{line: c.payloadLine} }

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
	c.tail = append(c.tail, line)
	if len(c.tail) > tailLines {
		c.tail = c.tail[1:]
	}
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
		return 0, fmt.Errorf("kernel panicked: %s%s", c.panic, c.tailLocked())
	case c.report == nil:
		return 0, fmt.Errorf("guest ended without an exit line%s", c.tailLocked())
	case c.report.Failure != "":
		return 0, fmt.Errorf("guest init: %s%s", c.report.Failure, c.tailLocked())
	case c.err != nil:
		return 0, fmt.Errorf("write output: %w", c.err)
	}
	return c.report.ExitCode, nil
}

func (c *console) tailText() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tailLocked()
}

func (c *console) tailLocked() string {
	if len(c.tail) == 0 {
		return "\nconsole is empty"
	}
	return fmt.Sprintf("\nconsole, last %d lines:\n\t%s", len(c.tail), strings.Join(c.tail, "\n\t"))
}

// A port cuts a byte stream into lines. It is used by one goroutine.
type port struct {
	line    func(string)
	partial []byte
}

// maxLine bounds the memory that a guest without newlines can take.
const maxLine = 64 << 10

func (p *port) Write(b []byte) (int, error) {
	for _, c := range b {
		switch c {
		case '\r': // serial consoles end lines with \r\n
		case '\n':
			p.flush()
		default:
			p.partial = append(p.partial, c)
			if len(p.partial) == maxLine {
				p.flush()
			}
		}
	}
	return len(b), nil
}

// Close passes on a last line that has no newline.
func (p *port) Close() error {
	if len(p.partial) > 0 {
		p.flush()
	}
	return nil
}

func (p *port) flush() {
	p.line(string(p.partial))
	p.partial = p.partial[:0]
}
