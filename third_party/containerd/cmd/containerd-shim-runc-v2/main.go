// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-runc-v2 stands between containerd and the processes of
// one pod, and outlives containerd. It is a program of its own, for each pod has
// one: what it holds in memory counts as often.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
