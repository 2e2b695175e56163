// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"runtime/pprof"
	"sync"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/snapshot"
)

// The components, as health reports and profiles call them.
const (
	etcdName              = "etcd"
	apiServerName         = "apiserver"
	controllerManagerName = "controller-manager"
	schedulerName         = "scheduler"
	dnsName               = "dns-publisher"
)

// Run runs the control plane until ctx ends or a component fails, and ends the
// components in the opposite order of their start: the scheduler, the controllers,
// the API server, etcd. A clean end returns nil.
func Run(ctx context.Context, o Options, board *health.Board, log *slog.Logger) error {
	for _, name := range []string{etcdName, apiServerName, controllerManagerName, schedulerName, dnsName} {
		board.Set(name, health.Starting, "")
	}
	if err := writeFiles(o.Layout); err != nil {
		return err
	}
	collectAsSet := collectSeldom()
	defer collectAsSet()
	starting, stop := context.WithCancel(ctx)
	defer stop()
	early, err := earlyHooks(starting)
	if err != nil {
		return err
	}
	for _, h := range early {
		h.start(starting)
	}
	etcd, err := startEtcd(ctx, &o)
	if err != nil {
		board.Set(etcdName, health.Failed, err.Error())
		return err
	}
	defer func() {
		etcd.Close()
		log.Info("etcd has ended")
	}()
	board.Set(etcdName, health.Ready, "")
	return runOverEtcd(ctx, &o, etcd, early, collectAsSet, board, log)
}

// runOverEtcd runs the API server and what needs it.
func runOverEtcd(ctx context.Context, o *Options, etcd *embed.Etcd, early []*earlyHook, collectAsSet func(), board *health.Board, log *slog.Logger) error {
	api := newComponent(apiServerName, board, log)
	server, err := newAPIServer(api.ctx, o, early)
	if err != nil {
		board.Set(apiServerName, health.Failed, err.Error())
		return err
	}
	api.start(func(ctx context.Context, _ func()) error { return server.run(ctx) })
	defer api.stop()

	if err := awaitPath(ctx, server.loopback, "/readyz", api.ended); err != nil {
		return stopped(ctx, err)
	}
	board.Set(apiServerName, health.Ready, "")
	log.Info("apiserver is ready")
	go collectAsSet()

	clients := []*component{
		newComponent(controllerManagerName, board, log),
		newComponent(schedulerName, board, log),
		newComponent(dnsName, board, log),
	}
	clients[0].start(func(ctx context.Context, ready func()) error { return runControllerManager(ctx, o, ready) })
	clients[1].start(func(ctx context.Context, ready func()) error { return runScheduler(ctx, o, ready) })
	clients[2].start(func(ctx context.Context, ready func()) error {
		return runDNSPublisher(ctx, o, server.loopback, log, ready)
	})
	defer stopAll(clients)
	saving, stopSaving := context.WithCancel(ctx)
	defer stopSaving()
	if s := o.Snapshots; s != nil {
		schedule := &snapshot.Schedule{
			Every: s.Every, Keep: s.Keep, Dir: s.Dir, Node: o.NodeName,
			Save: (&snapshot.Saver{Layout: o.Layout, Node: o.NodeName}).Save, Log: log,
		}
		go schedule.Run(saving)
	}

	select {
	case <-ctx.Done():
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-etcd.Server.StopNotify():
		return errors.New("etcd ended")
	case err := <-api.ended:
		return fmt.Errorf("apiserver ended: %w", err)
	case err := <-clients[0].ended:
		return fmt.Errorf("controller-manager ended: %w", err)
	case err := <-clients[1].ended:
		return fmt.Errorf("scheduler ended: %w", err)
	case err := <-clients[2].ended:
		return fmt.Errorf("dns-publisher ended: %w", err)
	}
}

// startGrowth is how much more the heap may grow between two runs of the garbage
// collector while the control plane starts. What it makes then stays, and looking at it
// again and again is a quarter of the work.
const startGrowth = 4

// collectSeldom has the garbage collector run less often until the function that it
// returns is called, once or more.
func collectSeldom() (collectAsSet func()) {
	set := debug.SetGCPercent(-1)
	if set >= 0 {
		debug.SetGCPercent(set * startGrowth)
	}
	return sync.OnceFunc(func() {
		debug.SetGCPercent(set)
		debug.FreeOSMemory() // or else what the start took stays for minutes
	})
}

// stopped is nil if ctx ended, for then every component fails in its own words.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// component is a part of the process with an end of its own.
type component struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	board  *health.Board
	log    *slog.Logger
	done   chan struct{}
	ended  chan error // what it ended with, unless it was stopped
}

func newComponent(name string, board *health.Board, log *slog.Logger) *component {
	ctx, cancel := context.WithCancel(context.Background())
	return &component{
		name: name, ctx: ctx, cancel: cancel, board: board, log: log,
		done: make(chan struct{}), ended: make(chan error, 1),
	}
}

// start runs it in goroutines that carry its name in profiles.
func (c *component) start(run func(ctx context.Context, ready func()) error) {
	ready := func() {
		c.board.Set(c.name, health.Ready, "")
		c.log.Info("component is ready", "component", c.name)
	}
	go pprof.Do(c.ctx, pprof.Labels("component", c.name), func(ctx context.Context) {
		defer close(c.done)
		err := run(ctx, ready)
		if ctx.Err() != nil {
			c.board.Set(c.name, health.Stopped, "")
			if err != nil && !errors.Is(err, context.Canceled) {
				c.log.Warn("component did not end cleanly", "component", c.name, "err", err)
			}
			return
		}
		if err == nil {
			err = errors.New("it returned without an error")
		}
		c.board.Set(c.name, health.Failed, err.Error())
		c.ended <- err
	})
}

// stop ends it and waits until it has.
func (c *component) stop() {
	c.cancel()
	<-c.done
	c.log.Info("component has ended", "component", c.name)
}

// stopAll ends components that do not need each other, all at once.
func stopAll(components []*component) {
	var wg sync.WaitGroup
	for _, c := range components {
		wg.Go(c.stop)
	}
	wg.Wait()
}
