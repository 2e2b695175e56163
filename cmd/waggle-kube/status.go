// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/supervise"
)

// nodeStatus is what `waggle-kube status` shows: the processes, and what is in them.
type nodeStatus struct {
	*supervise.Status
	Components map[string][]health.Component `json:"components"`
}

var errNotReady = errors.New("not everything is ready: see the log files above")

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the processes of this server and what is in them",
		Long:  "Show the processes of this server and what is in them. Exits with 1 unless all are ready.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layoutOf()
			if err != nil {
				return err
			}
			s, err := readStatus(cmd.Context(), l)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(s)
			} else {
				err = s.render(cmd.OutOrStdout(), time.Now())
			}
			if err == nil && !s.Ready {
				return errNotReady
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func readStatus(ctx context.Context, l layout.Layout) (*nodeStatus, error) {
	s, err := supervise.ReadStatus(ctx, l)
	if err != nil {
		return nil, err
	}
	n := &nodeStatus{Status: s, Components: map[string][]health.Component{}}
	for _, c := range s.Children {
		// containerd has none to tell, and a process that starts answers later.
		if report, err := fetch(ctx, l.Socket(c.Name)); err == nil {
			n.Components[c.Name] = report.Components
		}
	}
	return n, nil
}

// fetch does not wait for a process that hangs: that is what a status is to show.
func fetch(ctx context.Context, socket string) (*health.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return health.Fetch(ctx, socket)
}

func (n *nodeStatus) render(w io.Writer, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	age := func(since time.Time) time.Duration { return now.Sub(since).Round(time.Second) }
	fmt.Fprintln(t, "PROCESS\tSTATE\tFOR\tPID\tRESTARTS\tLOG")
	fmt.Fprintf(t, "supervisor\trunning\t%v\t%d\t\t\n", age(n.Started), n.PID)
	for _, c := range n.Children {
		state := string(c.State)
		if c.Adopted {
			state += " (adopted)"
		}
		fmt.Fprintf(t, "%s\t%s\t%v\t%d\t%d\t%s\n", c.Name, state, age(c.Since), c.PID, c.Restarts, c.LogFile)
		for _, part := range n.Components[c.Name] {
			fmt.Fprintf(t, "  %s\t%s\t%v\t\t\t%s\n", part.Name, part.State, age(part.Since), part.Message)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	// Not in the table, whose columns they would widen.
	for _, c := range n.Children {
		if problem := cmp.Or(c.LastError, c.LastExit); problem != "" && c.State != supervise.Ready {
			fmt.Fprintf(w, "%s: %s\n", c.Name, problem)
		}
	}
	return nil
}
