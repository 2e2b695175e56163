// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"io"
	"strings"
	"sync"

	"github.com/waggle-net/waggle/test/internal/qemu"
)

// A console passes the machine's console on and remembers its end.
type console struct {
	out io.Writer

	mu    sync.Mutex
	tail  qemu.Tail
	panic string // its first line
}

func (c *console) line(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
