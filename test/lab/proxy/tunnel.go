// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"io"
	"net"
	"time"
)

// tunnel carries bytes both ways until both sides have said all, one of them fails,
// nothing goes through for a while, or ctx ends. What the client sends is read from sent.
func (p *Proxy) tunnel(ctx context.Context, client net.Conn, sent io.Reader, server net.Conn) {
	closeBoth := func() {
		client.Close()
		server.Close()
	}
	// One clock for both directions: a download says nothing in the other one.
	idle := time.AfterFunc(p.IdleTimeout, closeBoth)
	defer idle.Stop()
	defer context.AfterFunc(ctx, closeBoth)()
	touch := func() { idle.Reset(p.IdleTimeout) }

	done := make(chan struct{})
	go func() {
		defer close(done)
		carry(server, sent, touch, closeBoth)
	}()
	carry(client, server, touch, closeBoth)
	<-done
}

// carry copies to the end of what is said, and says that it has come.
func carry(to io.Writer, from io.Reader, touch, failed func()) {
	if _, err := io.Copy(to, &watched{from, touch}); err != nil {
		failed()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		failed()
	}
}

// watched tells of each read.
type watched struct {
	io.Reader
	touch func()
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.touch()
	}
	return n, err
}
