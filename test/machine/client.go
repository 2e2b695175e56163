// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

var (
	// errPortClosed: QEMU is gone.
	errPortClosed = errors.New("machine has ended")
	// errAgentGone: systemd has started another agent since.
	errAgentGone = errors.New("agent has ended before it answered (journalctl -u waggle-machine-agent may say why)")
)

// A client is the test's end of the agent's port.
type client struct {
	conn    net.Conn
	sending sync.Mutex    // one request at a time
	ready   chan struct{} // closed at the first hello

	mu      sync.Mutex
	session string // the present one, empty before the first
	closed  bool
	lastID  uint64
	pending map[uint64]chan result
}

type result struct {
	answer *wire.Answer
	err    error
}

func newClient(conn net.Conn) *client {
	c := &client{conn: conn, ready: make(chan struct{}), pending: map[uint64]chan result{}}
	go c.read()
	return c
}

func (c *client) close() { c.conn.Close() }

// read hands out what the agent sends, until the port closes.
func (c *client) read() {
	r := bufio.NewReader(c.conn)
	for {
		m, err := wire.Receive[wire.Message](r)
		c.mu.Lock()
		switch {
		case err != nil:
			c.closed = true
			c.failLocked(errPortClosed)
			c.mu.Unlock()
			return
		case m.Hello != nil:
			if c.session == "" {
				close(c.ready)
			}
			c.failLocked(errAgentGone)
			c.session = m.Hello.Session
		case m.Answer != nil && m.Answer.Session == c.session:
			// An answer that nobody waits for any more has no channel.
			if done := c.pending[m.Answer.ID]; done != nil {
				delete(c.pending, m.Answer.ID)
				done <- result{answer: m.Answer}
			}
		}
		c.mu.Unlock()
	}
}

func (c *client) failLocked(err error) {
	for id, done := range c.pending {
		delete(c.pending, id)
		done <- result{err: err}
	}
}

// call sends a request and waits for its answer. When ctx ends before, the agent
// is told to end what it started.
func (c *client) call(ctx context.Context, req *wire.Request) (*wire.Answer, error) {
	done, err := c.register(req)
	if err != nil {
		return nil, err
	}
	if err := c.send(ctx, req); err != nil {
		c.forget(req.ID)
		return nil, err
	}
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		c.forget(req.ID)
		return nil, errors.Join(context.Cause(ctx), c.cancel(ctx, req))
	}
}

// cancel tells the agent to end what a request started, whose ctx has ended.
func (c *client) cancel(ctx context.Context, req *wire.Request) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return c.send(ctx, &wire.Request{Session: req.Session, ID: req.ID, Cancel: true})
}

// register gives a request its number and the channel for its result.
func (c *client) register(req *wire.Request) (<-chan result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errPortClosed
	}
	c.lastID++
	req.Session, req.ID = c.session, c.lastID
	done := make(chan result, 1) // read never waits for a caller
	c.pending[req.ID] = done
	return done, nil
}

func (c *client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// send gives up with ctx: a guest that hangs does not read. What it leaves half
// sent spoils only its own line.
func (c *client) send(ctx context.Context, req *wire.Request) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.conn.SetWriteDeadline(time.Time{}); err != nil {
		return errPortClosed
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	err := wire.Send(c.conn, req)
	if err != nil && ctx.Err() == nil {
		return errPortClosed
	}
	return err
}
