// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// opTimeout is how long one request may take. It is shorter than the
	// plugin waits, so that the answer says what took so long.
	opTimeout = 60 * time.Second
	// shutdownGrace is how long requests under way may take after Serve was
	// asked to end.
	shutdownGrace = 15 * time.Second
	// sweepInterval is how often a removal that failed is tried again.
	sweepInterval = time.Minute
	// acceptPause keeps a daemon that is out of file descriptors from spinning.
	acceptPause = 100 * time.Millisecond
)

// Serve answers requests until ctx ends, then lets those under way finish. It
// returns nil when ctx ended it.
func (s *Server) Serve(ctx context.Context, dp Datapath) error {
	if s.unlockQueue == nil {
		return ErrNotRecovered
	}
	l, err := listen(s.cfg.Socket)
	if err != nil {
		return err
	}
	// From here on a plugin that takes the queue's lock reaches the socket.
	s.unlockQueue()
	s.unlockQueue = nil
	s.log.Info("answering CNI requests", "socket", s.cfg.Socket, "podCIDRs", s.cfg.PodCIDRs)

	ops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		os.Remove(s.cfg.Socket)
		l.Close()
	})
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { s.sweepAgain(ctx, dp) })
	err = s.accept(ctx, l, func(c *net.UnixConn) {
		wg.Go(func() { s.handle(ops, dp, c) })
	})
	l.Close()
	defer time.AfterFunc(shutdownGrace, cancel).Stop()
	wg.Wait()
	return err
}

// accept hands connections on until ctx ends.
func (s *Server) accept(ctx context.Context, l *net.UnixListener, handle func(*net.UnixConn)) error {
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			handle(c)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		}
		s.log.Error("connection could not be accepted", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(acceptPause):
		}
	}
}

// sweepAgain retries removals that failed, until ctx ends.
func (s *Server) sweepAgain(ctx context.Context, dp Datapath) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := s.sweep(ctx, dp); err != nil {
				s.log.Error("pending deletes could not be tried again", "err", err)
			}
		}
	}
}
