// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/lab/cluster"
)

func newImage(name *string) *cobra.Command {
	image := &cobra.Command{Use: "image", Short: "Bring images to a cluster's nodes without a registry"}
	image.AddCommand(&cobra.Command{
		Use:   "import FILE...",
		Short: "Import archives of images into all nodes: OCI or docker's, plain or compressed",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			said, err := cluster.Import(cmd.Context(), l, args...)
			fmt.Fprint(cmd.OutOrStdout(), said)
			return err
		},
	})
	return image
}
