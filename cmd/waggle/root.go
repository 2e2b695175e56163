// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK      = 0
	exitProblem = 1 // the daemon has problems, and --check was given
	exitFailure = 2 // no answer: the daemon does not run, or the command is wrong
)

// errProblem ends a command whose answer has been given already: there is
// nothing more to say than the exit code.
var errProblem = errors.New("the daemon has problems")

// execute runs the command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "waggle",
		Short:         "Look at the waggle dataplane of this node",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(statusCommand(), versionCommand())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return exitOK
	case errors.Is(err, errProblem):
		return exitProblem
	default:
		fmt.Fprintln(stderr, "waggle:", err)
		return exitFailure
	}
}
