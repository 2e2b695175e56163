// SPDX-License-Identifier: Apache-2.0

// Command ctr is upstream's command line of containerd, with one command more:
// `ctr images load` (load.go).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containerd/containerd/v2/cmd/ctr/app"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctr := app.New()
	for _, c := range ctr.Commands {
		if c.Name == "images" {
			c.Commands = append(c.Commands, loadCommand)
		}
	}
	if err := ctr.Run(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "ctr:", err)
		return 1
	}
	return 0
}
