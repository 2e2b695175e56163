// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/install"
	"github.com/waggle-net/waggle/controlplane/launch"
	"github.com/waggle-net/waggle/deploy"
	"github.com/waggle-net/waggle/internal/version"
)

func installCommand() *cobra.Command {
	o := install.Options{Programs: launch.Programs(), Version: version.Version, Config: deploy.ServerConfig}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the programs and a systemd service that starts the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Source, err = binDir(); err != nil {
				return err
			}
			o.Out = cmd.OutOrStdout()
			return install.Install(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.Start, "now", false, "start the service, too")
	flags.StringVar(&o.Prefix, "prefix", install.DefaultPrefix, "where programs go")
	flags.StringVar(&o.BinDir, "bin-dir", install.DefaultBinDir, "where a link to waggle-kube goes")
	flags.StringVar(&o.ConfigFile, "config", "", "the server's configuration file")
	flags.StringVar(&o.Root, "root", "", "prepare the system in this folder, which does not run")
	return cmd
}

func uninstallCommand() *cobra.Command {
	var o install.UninstallOptions
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop everything and remove it from this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(nil, os.Environ())
			if err != nil {
				return err
			}
			dir, err := binDir()
			if err != nil {
				return err
			}
			o.Layout = c.Layout()
			o.CgroupRoot = c.Kubelet.CgroupRoot
			o.Out = cmd.OutOrStdout()
			s := launch.Stopper{Layout: o.Layout, BinDir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
			o.Stop = func(ctx context.Context) error { return s.All(ctx, 10*time.Second) }
			o.Cleanup = s.Cleanup
			return install.Uninstall(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.KeepData, "keep-data", false, "leave the data folder, logs and configuration")
	flags.StringVar(&o.Prefix, "prefix", install.DefaultPrefix, "where programs were installed")
	flags.StringVar(&o.Root, "root", "", "the system in this folder, which does not run")
	return cmd
}
