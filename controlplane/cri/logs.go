// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cri-client/pkg/logs"
)

// logOptions are the flags of logs.
type logOptions struct {
	follow, timestamps bool
	tail               int64
	since              string
}

func (t *tool) logsCommand() *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:   "logs CONTAINER",
		Short: "Print what a container wrote",
		Example: `  waggle-kube ctr logs --tail 20 -f 3f4b
  waggle-kube ctr logs --since 2026-01-31T12:00:00Z 3f4b`,
		Args: takes(1, 1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			return t.showLogs(ctx, c, cmd, o, args[0])
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on until the container ends")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "print the time of each line")
	f.Int64Var(&o.tail, "tail", -1, "print this many of the last lines; -1 is all")
	f.StringVar(&o.since, "since", "", "only lines after this time: an age such as 5m, or RFC 3339")
	return cmd
}

func (t *tool) showLogs(ctx context.Context, c *client, cmd *cobra.Command, o logOptions, arg string) error {
	opts := &logs.LogOptions{Follow: o.follow, Timestamp: o.timestamps}
	var err error
	if opts.Since, err = parseSince(o.since, t.now()); err != nil {
		return err
	}
	switch {
	case o.tail < -1:
		return fmt.Errorf("--tail %d: want a number of lines, or -1 for all", o.tail)
	case o.tail >= 0:
		opts.TailLines = &o.tail
	}
	id, err := c.container(ctx, arg)
	if err != nil {
		return err
	}
	resp, err := c.runtime.ContainerStatus(ctx, id, false)
	if err != nil {
		return fmt.Errorf("find log of container %s: %w", id, plain(err))
	}
	path := resp.GetStatus().GetLogPath()
	if path == "" {
		return fmt.Errorf("container %s was made without a log", id)
	}
	err = logs.ReadLogs(ctx, path, id, opts, c.runtime, cmd.OutOrStdout(), cmd.ErrOrStderr())
	if o.follow && ctx.Err() != nil {
		return nil // the reader has seen enough
	}
	if err != nil {
		return fmt.Errorf("read log of container %s: %w", id, plain(err))
	}
	return nil
}

// parseSince reads an age or a time. None is the beginning.
func parseSince(arg string, now time.Time) (time.Time, error) {
	if arg == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(arg); err == nil {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339Nano, arg)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %q: want an age such as 5m, or a time such as 2026-01-31T12:00:00Z", arg)
	}
	return at, nil
}
