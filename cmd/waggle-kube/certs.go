// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/pki"
)

func certsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "certs",
		Short: "List the certificates of this server and how long they hold",
		Long: "List the certificates of this server and how long they hold. A running server\n" +
			"renews them in time, but for those of the three CAs.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layoutOf()
			if err != nil {
				return err
			}
			certs, err := pki.Inspect(l.PKIDir())
			if err != nil {
				return err
			}
			return pki.RenderCerts(cmd.OutOrStdout(), certs, time.Now())
		},
	}
}
