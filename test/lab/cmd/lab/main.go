// SPDX-License-Identifier: Apache-2.0

// Command waggle-lab builds networks of nodes, a router and a client on one
// machine, and lets people look around in them. See test/lab/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	// A command run through "shell" has said itself what went wrong.
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "waggle-lab:", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "waggle-lab",
		Short:         "Networks of nodes, a router and a client on this machine",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	var name string
	root.PersistentFlags().StringVar(&name, "name", "lab", "name of the lab; several can run side by side")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newUp(&name), newDown(&name), newStatus(&name), newShell(&name), newDemo(&name),
		newCluster(&name), newImage(&name), newProxy(&name), newServe(), newProbe())
	return root
}

// progress tells the user what happens. Answers go to stdout, this to stderr.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
