// SPDX-License-Identifier: Apache-2.0

// Package file is an intent.Source that reads a YAML file.
//
// The file is one whole: it is applied as it is, or not at all. A version with
// mistakes changes nothing, and the last good one stays in force:
//
//	file -> Parse -> valid?  yes -> tables of the State
//	                         no  -> log, Problem
//
// Replace the file by renaming another one over it. One that is written in
// place is read when it has been quiet for a moment, which may be too early.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/waggle-net/waggle/datapath/intent"
)

// settleTime is how long the file is left alone after a change: whoever writes
// in place, or replaces the links of a ConfigMap, makes several.
const settleTime = 100 * time.Millisecond

// Source keeps a State as a file says. Use New.
type Source struct {
	path string
	log  *slog.Logger
	poll time.Duration // how often to look at the file where it cannot be watched

	last   []byte // what was read last, nil for nothing
	synced bool   // something was applied

	mu      sync.Mutex
	problem error
}

var _ intent.Source = (*Source)(nil)

// New returns a Source of the file at path. Nothing is read before Run.
func New(path string, log *slog.Logger) *Source {
	return &Source{path: path, log: log.With("file", path), poll: 10 * time.Second}
}

// Problem is what keeps the file's present content from being in force: nil
// while it is. A caller may ask at any time.
func (s *Source) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

// Run reads the file and follows its changes until ctx ends, and then returns
// nil. It returns an error where the file is there from the start and cannot be
// read or is not valid: that is a mistake somebody is waiting to see. An absent
// file is waited for.
func (s *Source) Run(ctx context.Context, state *intent.State) error {
	w := newWatch(s.path, s.poll, s.log)
	defer w.close()
	w.follow() // before reading, so that no change falls in between
	if err := s.apply(state); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.log.Info("waiting for the intent file: it says which nodes and services there are")
	}
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.events:
			settled = soon(settled)
		case err := <-w.errors: // such as an overflow: something has changed, too
			s.log.Debug("watch of the intent file", "error", err)
			settled = soon(settled)
		case <-w.ticks:
			settled = soon(settled)
		case <-settled:
			settled = nil
			w.follow()
			s.reapply(state)
		}
	}
}

// soon starts the time to settle, unless it runs: changes that go on and on
// must not put it off.
func soon(settled <-chan time.Time) <-chan time.Time {
	if settled != nil {
		return settled
	}
	return time.After(settleTime)
}

// reapply applies the file if it has changed, and logs how that went.
func (s *Source) reapply(state *intent.State) {
	before := s.Problem()
	err := s.apply(state)
	switch {
	case err == nil, before != nil && err.Error() == before.Error():
	case s.synced:
		s.log.Error("intent file not applied, the last good version stays in force", "error", err)
	default:
		s.log.Error("intent file not applied", "error", err)
	}
}

// apply makes state what the file says, and remembers what is wrong with it.
func (s *Source) apply(state *intent.State) error {
	err := s.read(state)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = err
	return err
}

func (s *Source) read(state *intent.State) error {
	data, err := readRegular(s.path)
	if err != nil {
		s.last = nil
		return fmt.Errorf("read intent: %w", err)
	}
	if s.last != nil && bytes.Equal(data, s.last) {
		return s.Problem() // nothing new, good or bad
	}
	s.last = data
	nodes, services, err := Parse(data)
	if err != nil {
		return fmt.Errorf("read intent %s: %w", s.path, err)
	}
	state.Nodes.Replace(nodes)
	state.Services.Replace(services)
	state.Nodes.MarkSynced()
	state.Services.MarkSynced()
	s.synced = true
	s.log.Info("intent file applied", "nodes", len(nodes), "services", len(services))
	return nil
}

// readRegular reads a file, and nothing that could block or have no end.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.ReadFile(path)
}
