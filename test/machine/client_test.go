// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

// An agent of the test, at the guest's end of the port.
type fakeAgent struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func newFakeAgent(t *testing.T) (*client, *fakeAgent) {
	ours, theirs := net.Pipe()
	c := newClient(ours)
	t.Cleanup(c.close)
	a := &fakeAgent{t: t, conn: theirs, r: bufio.NewReader(theirs)}
	a.hello("first")
	<-c.ready
	return c, a
}

func (a *fakeAgent) hello(session string) {
	a.send(&wire.Message{Hello: &wire.Hello{Session: session}})
}

func (a *fakeAgent) send(m *wire.Message) {
	if err := wire.Send(a.conn, m); err != nil {
		a.t.Error(err)
	}
}

func (a *fakeAgent) receive() *wire.Request {
	req, err := wire.Receive[wire.Request](a.r)
	if err != nil {
		a.t.Error(err)
		return &wire.Request{}
	}
	return req
}

// ask starts a call of which the answer comes through the channel.
func ask(ctx context.Context, c *client, path string) <-chan result {
	done := make(chan result, 1)
	go func() {
		answer, err := c.call(ctx, &wire.Request{Read: path})
		done <- result{answer, err}
	}()
	return done
}

// TestClientOutOfOrder: each answer finds its request.
func TestClientOutOfOrder(t *testing.T) {
	c, a := newFakeAgent(t)
	first := ask(t.Context(), c, "one")
	one := a.receive()
	second := ask(t.Context(), c, "two")
	two := a.receive()
	for _, req := range []*wire.Request{two, one} {
		a.send(&wire.Message{Answer: &wire.Answer{Session: req.Session, ID: req.ID, Data: []byte(req.Read)}})
	}
	if r := <-first; r.err != nil || string(r.answer.Data) != "one" {
		t.Errorf("the first got %+v", r)
	}
	if r := <-second; r.err != nil || string(r.answer.Data) != "two" {
		t.Errorf("the second got %+v", r)
	}
}

// TestClientAgentRestarts: what the agent before was asked fails, and its late
// answer is not taken for that of the next request.
func TestClientAgentRestarts(t *testing.T) {
	c, a := newFakeAgent(t)
	lost := ask(t.Context(), c, "lost")
	old := a.receive()
	if _, err := a.conn.Write([]byte(`{"answer":{"session":"first","id":1,"da`)); err != nil { // cut
		t.Fatal(err)
	}
	a.hello("second")
	if r := <-lost; !errors.Is(r.err, errAgentGone) {
		t.Errorf("the lost request got %+v, want %v", r, errAgentGone)
	}
	next := ask(t.Context(), c, "next")
	req := a.receive()
	if req.Session != "second" {
		t.Errorf("the next request is for session %q", req.Session)
	}
	a.send(&wire.Message{Answer: &wire.Answer{Session: old.Session, ID: req.ID, Data: []byte("late")}})
	a.send(&wire.Message{Answer: &wire.Answer{Session: req.Session, ID: req.ID, Data: []byte("right")}})
	if r := <-next; r.err != nil || string(r.answer.Data) != "right" {
		t.Errorf("the next request got %+v", r)
	}
}

// TestClientCancel: the agent is told, and its late answer goes nowhere.
func TestClientCancel(t *testing.T) {
	c, a := newFakeAgent(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := ask(ctx, c, "long")
	req := a.receive()
	why := errors.New("enough")
	cancel(why)
	if got := a.receive(); !got.Cancel || got.ID != req.ID || got.Session != req.Session {
		t.Errorf("the agent got %+v, want the cancel of %+v", got, req)
	}
	if r := <-done; r.answer != nil || !errors.Is(r.err, why) {
		t.Errorf("canceled: %+v, want %v", r, why)
	}
	a.send(&wire.Message{Answer: &wire.Answer{Session: req.Session, ID: req.ID}})
	next := ask(t.Context(), c, "next")
	req = a.receive()
	a.send(&wire.Message{Answer: &wire.Answer{Session: req.Session, ID: req.ID, Data: []byte("right")}})
	if r := <-next; r.err != nil || string(r.answer.Data) != "right" {
		t.Errorf("the next request got %+v", r)
	}
}

// TestClientCancelUnread: a guest that hangs reads nothing, and holds nobody.
func TestClientCancelUnread(t *testing.T) {
	c, _ := newFakeAgent(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := ask(ctx, c, "unread")
	cancel()
	if r := <-done; r.err == nil {
		t.Errorf("got %+v, want an error", r)
	}
}

// TestClientPortCloses: QEMU's end fails what is under way and what follows.
func TestClientPortCloses(t *testing.T) {
	c, a := newFakeAgent(t)
	done := ask(t.Context(), c, "lost")
	a.receive()
	a.conn.Close()
	if r := <-done; !errors.Is(r.err, errPortClosed) {
		t.Errorf("got %+v, want %v", r, errPortClosed)
	}
	if _, err := c.call(t.Context(), &wire.Request{Read: "after"}); !errors.Is(err, errPortClosed) {
		t.Errorf("afterwards: %v, want %v", err, errPortClosed)
	}
}
