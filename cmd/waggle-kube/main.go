// SPDX-License-Identifier: Apache-2.0

// Command waggle-kube is a compact Kubernetes: it runs a server, looks after it, and
// is the way to everything that comes with it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	// The supervisor starts its children by this program.
	if code, launched := supervise.Launch(); launched {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "waggle-kube:", err)
		return 1
	}
	return 0
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "waggle-kube",
		Short:         "A compact Kubernetes: the whole of it from one command",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		serverCommand(), checkCommand(), statusCommand(), stopCommand(),
		installCommand(), uninstallCommand(),
		kubectlCommand(), ctrCommand(), imageCommand(), snapshotCommand(), certsCommand(),
		versionCommand(),
	)
	return cmd
}

// withConfig adds the flags of the configuration to a command, and gives it what they
// say, over the environment and the file.
func withConfig(cmd *cobra.Command, run func(cmd *cobra.Command, c *config.Config, args []string) error) *cobra.Command {
	config.AddFlags(cmd.Flags())
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return config.FlagError(c.Flags(), err) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := config.Load(cmd.Flags(), os.Environ())
		if err != nil {
			return err
		}
		return run(cmd, c, args)
	}
	return cmd
}

// binDir is the folder of our programs: that of this one, through links.
func binDir() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the folder of the programs: %w", err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", fmt.Errorf("find the folder of the programs: %w", err)
	}
	return filepath.Dir(self), nil
}

func logger(c *config.Config) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of waggle-kube and of its Kubernetes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "waggle-kube %s\nKubernetes %s\n", version.String(), version.Kubernetes)
			return err
		},
	}
}
