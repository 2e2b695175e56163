// SPDX-License-Identifier: Apache-2.0

// Package status is what the daemon says about itself on its Unix socket: the
// types, the server, the client, and the text that people read.
//
//	Provider -> Serve -> socket -> Client -> Render
//
// The JSON is a promise: fields are added, and never change their meaning. To
// see it without the command line:
//
//	curl --unix-socket /run/waggle/waggled.sock http://waggled/v1/status
package status

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"
)

// Provider knows the daemon's status.
type Provider interface {
	// Status returns a status that is the caller's to keep. It may be called
	// at any time, from the start on, and by several callers at once.
	Status(ctx context.Context) (*Status, error)
	// Ready says why the daemon is not ready, and costs nothing.
	Ready() error
}

// Status is everything that the daemon says about itself.
type Status struct {
	// Version is the daemon's version.
	Version string `json:"version"`
	// NodeName is the node's name in the cluster.
	NodeName string `json:"nodeName"`
	// Started is when the daemon started.
	Started time.Time `json:"started"`
	// Ready says that pods of this node have their network: everything that
	// exists is in the kernel, and new pods are accepted.
	Ready bool `json:"ready"`

	// Problems are what somebody has to do something about.
	Problems  []Problem  `json:"problems"`
	Features  []Feature  `json:"features"`
	Programs  []Program  `json:"programs"`
	Maps      []Map      `json:"maps"`
	Endpoints []Endpoint `json:"endpoints"`
	Services  []Service  `json:"services"`
	Counters  []Counter  `json:"counters"`
}

// Problem is something that does not work as it should.
type Problem struct {
	// Component is the part of the daemon that met it, such as "intent".
	Component string `json:"component"`
	// Message says what is wrong.
	Message string `json:"message"`
	// Remedy says what to do about it; empty where nobody knows.
	Remedy string `json:"remedy,omitempty"`
}

// Feature is something that the daemon makes use of if the kernel has it.
type Feature struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	// Detail says what its absence costs.
	Detail string `json:"detail,omitempty"`
}

// Program is a program in the kernel, at one place where it is attached.
type Program struct {
	Name string `json:"name"`
	// Hook is the walk that it serves, such as "from_pod".
	Hook string `json:"hook"`
	// Attach is how it is attached: "tcx", "tc" or "cgroup".
	Attach string `json:"attach"`
	// Target is the device or the cgroup that it is attached to.
	Target string `json:"target"`
	// ID is the kernel's number of the program, as bpftool shows it.
	ID uint32 `json:"id"`
	// Verified is how many instructions the verifier walked through.
	Verified uint32 `json:"verified"`
}

// Map is a table in the kernel.
type Map struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Entries of at most MaxEntries are in use.
	Entries    uint32 `json:"entries"`
	MaxEntries uint32 `json:"maxEntries"`
	// Bytes is the memory that the kernel charges for it.
	Bytes uint64 `json:"bytes"`
	// Flag of waggled raises MaxEntries; empty where the size is fixed.
	Flag string `json:"flag,omitempty"`
}

// Endpoint is a local pod's interface.
type Endpoint struct {
	// ID is the endpoint's number on this node.
	ID uint32 `json:"id"`
	// Pod is its namespace and name; empty outside of Kubernetes.
	Pod         string `json:"pod,omitempty"`
	ContainerID string `json:"containerID"`
	// HostDevice is the name of the device's host side.
	HostDevice string       `json:"hostDevice"`
	Addresses  []netip.Addr `json:"addresses"`
	MAC        string       `json:"mac"`
	// Marks are the flags that decide the price of its packets, such as "NAT".
	Marks []string `json:"marks"`
}

// Service is one frontend: one address, port and protocol of a service.
type Service struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Address   netip.Addr `json:"address"`
	Port      uint16     `json:"port"`
	Protocol  string     `json:"protocol"`
	// Backends of the address's family, of which Ready take new connections.
	Backends int `json:"backends"`
	Ready    int `json:"ready"`
}

// Counter counts what happened to packets, for one reason at one hook.
type Counter struct {
	Hook string `json:"hook"`
	Name string `json:"name"`
	// Drop says that the packets went nowhere.
	Drop    bool   `json:"drop"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Healthy says that there is nothing for anybody to do.
func (s *Status) Healthy() bool { return s.Ready && len(s.Problems) == 0 }

// normalize makes equal statuses look equal: lists are sorted, and never null.
// Problems keep the order of the daemon, which puts the gravest first.
func (s *Status) normalize() {
	s.Problems = sorted(s.Problems, func(a, b Problem) int { return 0 })
	s.Features = sorted(s.Features, func(a, b Feature) int { return cmp.Compare(a.Name, b.Name) })
	s.Programs = sorted(s.Programs, func(a, b Program) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Target, b.Target), cmp.Compare(a.ID, b.ID))
	})
	s.Maps = sorted(s.Maps, func(a, b Map) int { return cmp.Compare(a.Name, b.Name) })
	s.Endpoints = sorted(s.Endpoints, func(a, b Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.Addresses = append([]netip.Addr{}, e.Addresses...)
		e.Marks = append([]string{}, e.Marks...)
	}
	s.Services = sorted(s.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	s.Counters = sorted(s.Counters, func(a, b Counter) int {
		return cmp.Or(cmp.Compare(a.Hook, b.Hook), cmp.Compare(a.Name, b.Name))
	})
}

func sorted[T any](list []T, compare func(a, b T) int) []T {
	out := append([]T{}, list...)
	slices.SortStableFunc(out, compare)
	return out
}
