// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/launch"
	"github.com/waggle-net/waggle/controlplane/preflight"
	"github.com/waggle-net/waggle/internal/version"
)

func serverCommand() *cobra.Command {
	return withConfig(&cobra.Command{
		Use:   "server",
		Short: "Run a server: a control plane, and a node on the same machine",
		Long: "Run a server: a control plane, and a node on the same machine, until told to end\n" +
			"(SIGTERM, SIGINT). Pods are left running then, and found again by the next start.",
		Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, c *config.Config, _ []string) error {
		dir, err := binDir()
		if err != nil {
			return err
		}
		log := logger(c)
		log.Info("starting", "version", version.String(), "kubernetes", version.Kubernetes, "node", c.NodeName)
		s := launch.Server{Config: c, BinDir: dir, Log: log}
		return s.Run(cmd.Context())
	})
}

var errCheckFailed = errors.New("this machine cannot run a server yet: see the lines that fail")

func checkCommand() *cobra.Command {
	return withConfig(&cobra.Command{
		Use:   "check",
		Short: "Say what this machine offers to a server, what it lacks, and what to do",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, c *config.Config, _ []string) error {
		dir, err := binDir()
		if err != nil {
			return err
		}
		s := launch.Server{Config: c, BinDir: dir}
		findings, err := s.Check(cmd.Context())
		if err != nil {
			return err
		}
		if err := preflight.Render(cmd.OutOrStdout(), findings); err != nil {
			return err
		}
		if preflight.Failed(findings) {
			return errCheckFailed
		}
		return nil
	})
}
