// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/internal/status"
)

// statusOptions are the flags of waggle status.
type statusOptions struct {
	socket  string
	output  string
	json    bool
	check   bool
	timeout time.Duration
}

func statusCommand() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the daemon's view of this node",
		Long: `Show the daemon's view of this node: problems, kernel features, programs,
maps, endpoints, services and counters.

Exit code 0: the daemon answered. 1: it has problems or is not ready, with
--check only. 2: it did not answer.`,
		Example: `  waggle status
  waggle status --json | jq '.maps[] | select(.entries > .maxEntries / 2)'
  waggle status --check >/dev/null || echo "look at this node"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return showStatus(c, o) },
	}
	f := c.Flags()
	f.StringVar(&o.socket, "socket", status.DefaultSocket, "the daemon's socket")
	f.StringVarP(&o.output, "output", "o", "text", "what to print: text or json")
	f.BoolVar(&o.json, "json", false, "the same as -o json")
	f.BoolVar(&o.check, "check", false, "exit with 1 if there are problems or the daemon is not ready")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for the answer")
	c.MarkFlagsMutuallyExclusive("json", "output")
	return c
}

func showStatus(c *cobra.Command, o statusOptions) error {
	if o.json {
		o.output = "json"
	}
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("unknown output %q: use text or json", o.output)
	}
	ctx, cancel := context.WithTimeout(c.Context(), o.timeout)
	defer cancel()
	s, err := (&status.Client{Socket: o.socket}).Status(ctx)
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = status.WriteJSON(c.OutOrStdout(), s)
	} else {
		err = status.Render(c.OutOrStdout(), s, time.Now())
	}
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if o.check && !s.Healthy() {
		return errProblem
	}
	return nil
}
