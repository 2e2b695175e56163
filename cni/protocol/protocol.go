// SPDX-License-Identifier: Apache-2.0

// Package protocol is what waggle-cni and waggled say to each other.
//
// The plugin connects to the daemon's Unix socket, sends one Request as a line
// of JSON and reads one Response. The pod's network namespace travels beside
// the request as a file descriptor (SCM_RIGHTS), so the daemon needs no view of
// the plugin's mount namespace: in a container, in a lab host and on a plain
// machine the same message works.
//
// Plugin and daemon may be one release apart, in both directions: fields are
// only added, and a Request names the protocol version that it needs.
package protocol

import (
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Version is the newest protocol version that this code speaks.
const Version = 1

// DefaultSocket is where the daemon listens unless its configuration says otherwise.
const DefaultSocket = "/run/waggle/cni.sock"

// Verb is what the plugin asks for: a CNI verb that needs the daemon.
type Verb string

// The verbs of CNI 1.1.0 that reach the daemon. VERSION is answered by the plugin.
const (
	Add    Verb = "ADD"
	Del    Verb = "DEL"
	Check  Verb = "CHECK"
	Status Verb = "STATUS"
	GC     Verb = "GC"
)

// Attachment names one interface of one container, as CNI does.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// Pod is the workload that an attachment belongs to, from CNI_ARGS. Outside of
// Kubernetes all fields are empty.
type Pod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// Request is one question. For Add and Check the network namespace travels as
// the one file descriptor beside it.
type Request struct {
	// Version is the protocol version, required.
	Version int `json:"version"`
	// Verb is required.
	Verb Verb `json:"verb"`
	// Network is the name in the network configuration, required.
	Network string `json:"network"`
	// Attachment is required but for Status and GC.
	Attachment
	// NetNS is the path that the runtime gave, for messages and records only.
	NetNS string `json:"netns,omitempty"`
	// Pod is optional.
	Pod Pod `json:"pod"`
	// Valid lists the attachments that exist, for GC: all others are released.
	Valid []Attachment `json:"valid,omitempty"`
	// PrevResult is what Add returned, for Check.
	PrevResult *types100.Result `json:"prevResult,omitempty"`
}

// Response is the answer: Error, or success, with Result for Add.
type Response struct {
	// Version is the newest protocol version that the daemon speaks.
	Version int              `json:"version"`
	Result  *types100.Result `json:"result,omitempty"`
	Error   *types.Error     `json:"error,omitempty"`
}
