// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/runtime"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Bring images to this node without a registry"}
	cmd.AddCommand(imageImportCommand())
	return cmd
}

func imageImportCommand() *cobra.Command {
	var pin bool
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Import archives of images: OCI or docker's, plain or compressed",
		Long: "Import archives of images: OCI or docker's, plain or compressed. What lies in the\n" +
			"folder images/ of the data folder is imported at each start.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			l, err := layoutOf()
			if err != nil {
				return err
			}
			dir, err := binDir()
			if err != nil {
				return err
			}
			if _, err := os.Stat(l.ContainerdSocket()); err != nil {
				return fmt.Errorf("import images: containerd does not run: is `waggle-kube server` running? (%w)", err)
			}
			host, err := runtime.Detect(cmd.Context(), l.Data)
			if err != nil {
				return err
			}
			i := runtime.Importer{Layout: l, BinDir: dir, Snapshotter: host.Snapshotter, Pin: pin}
			imported, err := i.Import(cmd.Context(), files...)
			for _, one := range imported {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", one.File, strings.Join(one.Images, ", "))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&pin, "pin", true, "keep the images when the kubelet makes room")
	return cmd
}
