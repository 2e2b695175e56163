// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"fmt"
	"strings"
)

// Lines cuts a byte stream into lines. It is used by one goroutine.
type Lines struct {
	// Each is called with each line, without its end. Required.
	Each func(line string)

	partial []byte
}

// maxLine bounds the memory that a guest without newlines can take.
const maxLine = 64 << 10

// Write passes on the lines that b completes.
func (l *Lines) Write(b []byte) (int, error) {
	for _, c := range b {
		switch c {
		case '\r': // serial consoles end lines with \r\n
		case '\n':
			l.flush()
		default:
			l.partial = append(l.partial, c)
			if len(l.partial) == maxLine {
				l.flush()
			}
		}
	}
	return len(b), nil
}

// Close passes on a last line that has no newline.
func (l *Lines) Close() error {
	if len(l.partial) > 0 {
		l.flush()
	}
	return nil
}

func (l *Lines) flush() {
	l.Each(string(l.partial))
	l.partial = l.partial[:0]
}

// tailLines is how much of the console an error quotes: a kernel oops with its
// call trace fits.
const tailLines = 60

// A Tail holds the last lines of a console. The zero value is empty.
type Tail struct{ lines []string }

// Add appends a line and forgets the oldest where there are too many.
func (t *Tail) Add(line string) {
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// String is the end of an error message.
func (t *Tail) String() string {
	if len(t.lines) == 0 {
		return "\nconsole is empty"
	}
	return fmt.Sprintf("\nconsole, last %d lines:\n\t%s", len(t.lines), strings.Join(t.lines, "\n\t"))
}
