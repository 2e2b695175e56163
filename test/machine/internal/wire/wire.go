// SPDX-License-Identifier: Apache-2.0

// Package wire is the contract between a test and the agent inside its machine:
// one JSON value a line, in both directions, over a port of its own.
//
//	test ── Request ──► agent
//	test ◄── Hello, Answer ── agent
//
// The port outlives what is at the guest's end of it: an agent that systemd has
// started again may find requests that were meant for the one before, and the
// test half an answer. So each line starts with an empty one, lines that do not parse are
// passed over, and what carries another session's name is for nobody.
package wire

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"
)

const (
	// PortName is how the guest finds its end: /dev/virtio-ports/<name>.
	PortName = "waggle.agent"
	// AgentPath is where the guest has its agent.
	AgentPath = "/usr/local/sbin/waggle-machine-agent"
	// MaxOutput bounds what one command may print, or one file hold, in bytes.
	MaxOutput = 16 << 20
)

// A Message is what the agent sends: one of its fields.
type Message struct {
	Hello  *Hello  `json:"hello,omitempty"`
	Answer *Answer `json:"answer,omitempty"`
}

// A Hello opens a session: the agent has started.
type Hello struct {
	// Session differs each time that the agent starts.
	Session string `json:"session"`
}

// A Request asks for one thing: that of its last five fields which is set.
// Several may be under way.
type Request struct {
	Session string `json:"session"`
	ID      uint64 `json:"id"` // comes back in the Answer

	Run   *Command   `json:"run,omitempty"`
	Read  string     `json:"read,omitempty"` // path of a file
	Write *File      `json:"write,omitempty"`
	Clock *time.Time `json:"clock,omitempty"`
	// Cancel ends what the request of the same ID started. It has no answer of
	// its own.
	Cancel bool `json:"cancel,omitempty"`
}

// A Command is a program to run.
type Command struct {
	Args  []string `json:"args"`            // required: the program and its arguments
	Stdin []byte   `json:"stdin,omitempty"` // optional
	Env   []string `json:"env,omitempty"`   // optional: KEY=value, added to the agent's own
	Dir   string   `json:"dir,omitempty"`   // optional: /
}

// A File is written whole.
type File struct {
	Path string      `json:"path"`
	Data []byte      `json:"data,omitempty"`
	Mode fs.FileMode `json:"mode"`
}

// An Answer is how a request ended.
type Answer struct {
	Session string `json:"session"`
	ID      uint64 `json:"id"`

	Code   int    `json:"code,omitempty"` // exit code; 128 plus the signal when one ended the command
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
	Data   []byte `json:"data,omitempty"` // of the file that was read

	// Error is what kept the agent from doing what was asked.
	Error string        `json:"error,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"` // of that error, where it has one
}

// Send writes one value as a line, in one call.
func Send(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	line := make([]byte, 0, len(b)+2)
	line = append(line, '\n')
	line = append(line, b...)
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Receive returns the next value of type T. Lines that hold none are passed
// over, so the only errors are the reader's own.
func Receive[T any](r *bufio.Reader) (*T, error) {
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err // a line without an end was cut
		}
		v := new(T)
		if json.Unmarshal(line, v) == nil {
			return v, nil
		}
	}
}
