// SPDX-License-Identifier: Apache-2.0

// Program agent runs inside a test's machine, as a service of systemd, and does
// what the test asks for: it runs commands, reads and writes files, sets the
// clock. It is built static and has no flags; package wire is its contract.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync"

	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

func main() {
	os.Exit(run())
}

func run() int {
	if err := serve(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		return 1
	}
	return 0
}

// serve answers requests until the port fails.
func serve(ctx context.Context) error {
	port, err := os.OpenFile("/dev/virtio-ports/"+wire.PortName, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open port: %w (started outside of a test's machine?)", err)
	}
	defer port.Close()
	a := &agent{port: port, session: rand.Text(), running: map[uint64]context.CancelFunc{}}
	if err := a.send(&wire.Message{Hello: &wire.Hello{Session: a.session}}); err != nil {
		return err
	}
	r := bufio.NewReader(port)
	for {
		req, err := wire.Receive[wire.Request](r)
		if err != nil {
			return fmt.Errorf("read port: %w", err)
		}
		if req.Session == a.session {
			a.handle(ctx, req)
		}
	}
}

type agent struct {
	session string

	sending sync.Mutex // one answer at a time
	port    *os.File

	mu      sync.Mutex
	running map[uint64]context.CancelFunc // by the request's ID
}

// handle starts what is asked for and returns at once.
func (a *agent) handle(ctx context.Context, req *wire.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Cancel {
		if cancel := a.running[req.ID]; cancel != nil {
			cancel()
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a.running[req.ID] = cancel
	go func() {
		answer := do(ctx, req)
		answer.Session, answer.ID = a.session, req.ID
		a.mu.Lock()
		delete(a.running, req.ID)
		a.mu.Unlock()
		cancel()
		if err := a.send(&wire.Message{Answer: answer}); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
		}
	}()
}

func (a *agent) send(m *wire.Message) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	return wire.Send(a.port, m)
}
