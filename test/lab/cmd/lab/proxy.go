// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/lab/proxy"
)

// nobody needs no rights on the machine (65534 on all distributions).
const nobody = 65534

// newProxy runs on the machine and not in a host: `waggle-lab cluster --proxy` starts it.
func newProxy(name *string) *cobra.Command {
	return &cobra.Command{
		Use:    "proxy",
		Short:  "Tunnel from the lab to web servers outside",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			var listeners []net.Listener
			for _, a := range l.MachineAddrs() {
				listener, err := net.Listen("tcp", netip.AddrPortFrom(a, proxy.Port).String())
				if err != nil {
					return fmt.Errorf("start proxy: %w", err)
				}
				listeners = append(listeners, listener)
			}
			if err := becomeNobody(); err != nil {
				return err
			}
			p := &proxy.Proxy{
				// The link is the lab's, too: nobody is to reach this machine by it.
				Clients: append(l.Prefixes(), lab.MachinePrefixes()...),
				Log:     slog.New(slog.NewTextHandler(cmd.OutOrStdout(), nil)),
			}
			return p.Serve(cmd.Context(), listeners...)
		},
	}
}

func becomeNobody() error {
	err := syscall.Setgroups(nil)
	if err == nil {
		err = syscall.Setgid(nobody)
	}
	if err == nil {
		err = syscall.Setuid(nobody)
	}
	if err != nil {
		return fmt.Errorf("give up root's rights: %w", err)
	}
	return nil
}
