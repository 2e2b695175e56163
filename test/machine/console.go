// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/waggle-net/waggle/test/internal/qemu"
)

// A console passes the machine's console on and remembers its end.
type console struct {
	out io.Writer

	mu      sync.Mutex
	tail    qemu.Tail
	waiting string // what systemd's last line says it waits for
	panic   string // its first line
}

// escapes are what systemd moves the cursor with, no matter which terminal.
var escapes = strings.NewReplacer("\x1bM", "", "\x1b[K", "")

// waits matches the line that systemd shows again and again, in place, while
// something takes long: its changing ends are not part of what it says.
var waits = regexp.MustCompile(`^\[[ *]{6}\] (.*) \(`)

func (c *console) line(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line = escapes.Replace(line)
	waiting := ""
	if match := waits.FindStringSubmatch(line); match != nil {
		waiting = match[1]
	}
	if waiting != "" && waiting == c.waiting {
		return
	}
	c.waiting = waiting
	c.tail.Add(line)
	// A writer that fails does not stop the machine.
	_, _ = io.WriteString(c.out, line+"\n")
	if c.panic == "" && strings.Contains(line, "Kernel panic - not syncing") {
		c.panic = line
	}
}

func (c *console) panicLine() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.panic
}

// text is the end of an error message.
func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tail.String()
}
