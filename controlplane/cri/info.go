// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (t *tool) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info",
		Short: "Print whether containerd and its network are ready, and its configuration, as JSON",
		Args:  takes(0, 0),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
			resp, err := c.runtime.Status(ctx, true)
			if err != nil {
				return fmt.Errorf("ask containerd for its state: %w", plain(err))
			}
			v, err := inspection{status: resp.Status, info: resp.Info}.value()
			if err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), v)
		}),
	}
}

func (t *tool) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of containerd",
		Args:  takes(0, 0),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
			v, err := c.runtime.Version(ctx, "")
			if err != nil {
				return fmt.Errorf("ask containerd for its version: %w", plain(err))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Version:            %s\nRuntimeName:        %s\nRuntimeVersion:     %s\nRuntimeApiVersion:  %s\n",
				v.Version, v.RuntimeName, v.RuntimeVersion, v.RuntimeApiVersion)
			return err
		}),
	}
}
