// SPDX-License-Identifier: Apache-2.0

// Package lab builds real network topologies on one machine: nodes in racks, a
// router between the racks and, if wanted, a client outside.
//
// Each host is a network, a mount and a UTS namespace of its own, joined to the
// router by veth pairs and bridges. The machine's own network namespace, sysctls
// and folders stay as they are: everything lives below /run/waggle-lab/<name>,
// in namespaces bound at /run/netns/<name>-<host>, and in one cgroup subtree. If
// it is asked for (Topology.Machine), the machine gets one device and routes to
// the lab, which go with it.
// Down finds what to remove by looking at the kernel, not by remembering, so that
// it cleans up after an Up that was killed at any instruction.
//
// A test that needs two nodes says:
//
//	l := lab.ForTest(t, lab.Topology{Racks: []int{1, 1}, Client: true})
//	out, err := l.Host("node1").Run(ctx, "ip", "route")
package lab
