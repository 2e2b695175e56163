// SPDX-License-Identifier: Apache-2.0

// Command waggled is the node daemon: it loads the eBPF datapath, answers the
// CNI plugin and keeps the kernel as the cluster wants it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2" //nolint:depguard // what client-go logs with: it is to go where ours goes

	"github.com/waggle-net/waggle/internal/config"
	"github.com/waggle-net/waggle/internal/daemon"
	"github.com/waggle-net/waggle/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "waggled:", err)
		return 1
	}
	return 0
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "waggled",
		Short:         "The node daemon of waggle: an eBPF dataplane for Kubernetes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(runCommand(), checkCommand(), cleanupCommand(), versionCommand())
	return cmd
}

func runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Take this node over and look after it until told to end",
		Long: "Take this node over and look after it until told to end (SIGTERM, SIGINT).\n" +
			"What was attached stays: pods keep talking while no daemon runs.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path, cmd.Flags())
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
			klog.SetSlogLogger(log.With("part", "client-go"))
			log.Info("starting", "version", version.String(), "node", cfg.NodeName)
			return daemon.Run(cmd.Context(), cfg, log)
		},
	}
	cmd.Flags().StringVar(&path, "config", config.DefaultPath, "configuration file")
	config.AddFlags(cmd.Flags())
	return cmd
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what this kernel offers, what it lacks, and what that costs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return daemon.Check(cmd.OutOrStdout()) },
	}
}

func cleanupCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove from this node everything that waggled put there",
		Long: "Remove from this node everything that waggled put there: programs, maps, pods'\n" +
			"devices, routes, masquerading and the CNI plugin. Pods lose their network. The\n" +
			"daemon must not be running.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path, cmd.Flags())
			if err != nil {
				return err
			}
			return daemon.Cleanup(cmd.Context(), cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
	cmd.Flags().StringVar(&path, "config", config.DefaultPath, "configuration file")
	config.AddFlags(cmd.Flags())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) },
	}
}
