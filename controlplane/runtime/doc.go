// SPDX-License-Identifier: Apache-2.0

// Package runtime prepares containerd for a node: what the machine offers it
// (Detect), its configuration (Config), its process (Command), whether it answers
// (Ready), and the images it is given (Importer).
//
// It starts nothing that stays, and it imports neither containerd nor gRPC: the
// supervisor uses it, and is small. containerd and its shims are programs of their
// own, built from third_party/containerd.
//
// # Files
//
// Below the data folder: containerd (images, snapshots, temporary files),
// generated/containerd.toml and generated/registries. Below the run folder:
// containerd, with the sockets, the state of tasks and of runc, the pods' network
// namespaces, and in containerd/s the shims' sockets. A socket's path is so short
// that the latter are in [DefaultShimSockets] instead where the run folder's path
// has more than 29 bytes; their names are unique to the run folder.
//
// containerd listens on a port of 127.0.0.1 that the kernel chooses, for the
// kubelet to pass exec, attach and port-forward on. It is reached with a token
// that the kubelet gets for each request.
package runtime
