// SPDX-License-Identifier: Apache-2.0

// Command containerd is upstream's containerd, with the plugins that a node of
// waggle-kube needs (plugins.go).
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/cmd/containerd/command"
)

func main() { os.Exit(run()) }

func run() int {
	if err := command.App().Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "containerd:", err)
		return 1
	}
	return 0
}
