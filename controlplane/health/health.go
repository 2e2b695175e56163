// SPDX-License-Identifier: Apache-2.0

// Package health is how a process of waggle-kube says which of its components are
// up: a Board that the components write, served on a Unix socket that the
// supervisor and `waggle-kube status` read.
package health

import (
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// State is how far a component has come.
type State string

// The states of a component.
const (
	Starting State = "starting"
	Ready    State = "ready"
	Failed   State = "failed"
	Stopped  State = "stopped"
)

// Component is what one component of a process reports.
type Component struct {
	Name  string    `json:"name"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Message says what a component that is not ready waits for, or why it failed.
	Message string `json:"message,omitempty"`
}

// Report is what a process says of itself.
type Report struct {
	Process    string      `json:"process"`
	PID        int         `json:"pid"`
	Version    string      `json:"version"`
	Kubernetes string      `json:"kubernetes"`
	Started    time.Time   `json:"started"`
	Components []Component `json:"components"`
}

// Ready is whether every component is.
func (r *Report) Ready() bool { return r.Pending() == nil }

// Pending is the first component that is not ready, nil if there is none. A
// process that has named no component yet has one that starts.
func (r *Report) Pending() *Component {
	if len(r.Components) == 0 {
		return &Component{Name: r.Process, State: Starting}
	}
	for i := range r.Components {
		if r.Components[i].State != Ready {
			return &r.Components[i]
		}
	}
	return nil
}

// Board collects what the components of this process report. It is safe for
// concurrent use.
type Board struct {
	process, version, kubernetes string
	started                      time.Time

	mu         sync.Mutex
	components map[string]Component
	order      []string
}

// NewBoard makes the board of a process. The versions are waggle's and that of
// Kubernetes.
func NewBoard(process, version, kubernetes string) *Board {
	return &Board{
		process: process, version: version, kubernetes: kubernetes,
		started: time.Now(), components: map[string]Component{},
	}
}

// Set notes the state of a component. The first call for a name adds it.
func (b *Board) Set(name string, state State, message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.components[name]
	if !known {
		b.order = append(b.order, name)
	}
	if c.State != state {
		c.Since = time.Now()
	}
	c.Name, c.State, c.Message = name, state, message
	b.components[name] = c
}

// Report is a copy of what is known now.
func (b *Board) Report() *Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	components := maps.Clone(b.components)
	list := make([]Component, 0, len(b.order))
	for name := range slices.Values(b.order) {
		list = append(list, components[name])
	}
	return &Report{
		Process: b.process, PID: os.Getpid(), Version: b.version, Kubernetes: b.kubernetes,
		Started: b.started, Components: list,
	}
}
