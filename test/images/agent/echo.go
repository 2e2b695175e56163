// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"net"
)

// echoTCP sends back what it gets on each connection, until the other side has
// sent all.
func echoTCP(ctx context.Context, address string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })() // it ends Accept
	for {
		conn, err := l.Accept()
		if err != nil {
			return unlessDone(ctx, err)
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn) // the other side learns of it by the end
		}()
	}
}

// echoUDP sends back each datagram.
func echoUDP(ctx context.Context, address string) error {
	return serveUDP(ctx, address, func(asked []byte, _ net.Addr) []byte { return asked })
}

// serveUDP answers each datagram.
func serveUDP(ctx context.Context, address string, answer func(asked []byte, from net.Addr) []byte) error {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // it ends ReadFrom
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return unlessDone(ctx, err)
		}
		_, _ = conn.WriteTo(answer(buf[:n], from), from) // who is gone does not matter
	}
}

func unlessDone(ctx context.Context, err error) error {
	if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
		return nil
	}
	return err
}
