// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/waggle-net/waggle/controlplane/dns/nameserver"
)

// rereadInterval is how soon a change is seen that the kernel does not tell: of a file
// behind a bind mount, of a folder that was missing, or where inotify has no instance left.
const rereadInterval = 30 * time.Second

// follower keeps the upstreams as resolv.conf has them.
type follower struct {
	s       *server
	source  nameserver.Source
	last    nameserver.List
	watcher *fsnotify.Watcher // nil where there is none
	changed chan struct{}
}

// followNameservers sets the upstreams for the first time.
func (s *server) followNameservers(ctx context.Context) (*follower, error) {
	f := &follower{s: s, changed: make(chan struct{}, 1), source: nameserver.Source{
		Listed: s.Upstreams, ResolvConf: s.ResolvConf, ResolvedConf: s.resolvedConf, Self: s.self,
	}}
	first, err := f.source.Read()
	if err != nil {
		return nil, err
	}
	s.upstreams.log = s.Log
	f.apply(ctx, first)
	if len(s.Upstreams) > 0 {
		return f, nil // which do not change
	}
	if f.watcher, err = fsnotify.NewWatcher(); err != nil {
		s.Log.Warn("changes of resolv.conf are seen late: raise the sysctl fs.inotify.max_user_instances",
			"interval", rereadInterval, "error", err)
	}
	f.watch()
	f.trigger() // for what changed before the watch
	go f.translate(ctx)
	return f, nil
}

// changes is ready when the files should be read again.
func (f *follower) changes() <-chan struct{} { return f.changed }

// translate makes one trigger of many: all events are about a few folders, in which
// little happens, and reading again costs nothing.
func (f *follower) translate(ctx context.Context) {
	var events <-chan fsnotify.Event
	var errs <-chan error // an overflow: events are missing
	if f.watcher != nil {
		events, errs = f.watcher.Events, f.watcher.Errors
	}
	tick := time.NewTicker(rereadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				return
			}
		case _, ok := <-errs:
			if !ok {
				return
			}
		case <-tick.C:
		}
		f.trigger()
	}
}

func (f *follower) trigger() {
	select {
	case f.changed <- struct{}{}:
	default: // there is one already
	}
}

// watch watches the folders of the files and of what they link to, since they are
// replaced, not written.
func (f *follower) watch() {
	if f.watcher == nil {
		return
	}
	for _, path := range []string{f.s.ResolvConf, f.s.resolvedConf} {
		_ = f.watcher.Add(filepath.Dir(path)) // a folder that is missing is tried again
		if target, err := filepath.EvalSymlinks(path); err == nil {
			_ = f.watcher.Add(filepath.Dir(target))
		}
	}
}

// read applies what the files say now.
func (f *follower) read(ctx context.Context) {
	f.watch()
	n, err := f.source.Read()
	if err == nil && !n.Equal(f.last) { // the error is that of a list, which is not followed
		f.apply(ctx, n)
	}
}

func (f *follower) apply(ctx context.Context, n nameserver.List) {
	for _, problem := range n.Problems {
		f.s.Log.Warn("cluster DNS: nameservers", "problem", problem)
	}
	f.s.Log.Info("cluster DNS forwards", "nameservers", n.Addrs, "from", n.From)
	f.s.upstreams.set(ctx, n.Addrs)
	f.last = n
}

func (f *follower) close() {
	if f.watcher != nil {
		f.watcher.Close()
	}
	f.s.upstreams.now.Load().stop()
}
