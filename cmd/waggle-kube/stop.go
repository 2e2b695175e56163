// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/launch"
)

func stopCommand() *cobra.Command {
	var all bool
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the server; with --all, its pods and its datapath too",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layoutOf()
			if err != nil {
				return err
			}
			dir, err := binDir()
			if err != nil {
				return err
			}
			s := launch.Stopper{Layout: l, BinDir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
			if all {
				return s.All(cmd.Context(), grace)
			}
			return s.Server(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "stop the pods and the datapath, too")
	cmd.Flags().DurationVar(&grace, "grace", 10*time.Second, "with --all: how long containers have to end by themselves")
	return cmd
}
