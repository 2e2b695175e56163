// SPDX-License-Identifier: Apache-2.0

// Command waggle is the operator's command line. It asks the daemon of this
// node over its Unix socket. Answers go to stdout, everything else to stderr.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
