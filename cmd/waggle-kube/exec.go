// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/layout"
)

// become replaces this process by another of our programs.
func become(program string, args []string) error {
	dir, err := binDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, program)
	err = unix.Exec(path, append([]string{program}, args...), os.Environ())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not beside waggle-kube in %s: unpack the whole release into one folder", program, dir)
	}
	return fmt.Errorf("execute %s: %w", path, err)
}

// layoutOf is where the node of this machine keeps its files, as far as environment
// and configuration file say. Commands that pass all their arguments on have no flags
// of their own for it.
func layoutOf() (layout.Layout, error) {
	c, err := config.Load(nil, os.Environ())
	if err != nil {
		return layout.Layout{}, err
	}
	return c.Layout(), nil
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl",
		Short:              "Run kubectl on this cluster (as its administrator, unless KUBECONFIG or --kubeconfig says otherwise)",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if os.Getenv("KUBECONFIG") == "" {
				l, err := layoutOf()
				if err != nil {
					return err
				}
				// Set and not appended: it may be there and empty, and the first one counts.
				if err := os.Setenv("KUBECONFIG", l.Kubeconfig("admin")); err != nil {
					return fmt.Errorf("set KUBECONFIG: %w", err)
				}
			}
			return become("waggle-kubernetes", append([]string{"kubectl"}, args...))
		},
	}
}

// passOn is a command of waggle-kubernetes under the same name.
func passOn(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Short:              short,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := layoutOf()
			if err != nil {
				return err
			}
			return become("waggle-kubernetes", append([]string{name, "--data-dir", l.Data, "--run-dir", l.Run}, args...))
		},
	}
}

func ctrCommand() *cobra.Command {
	return passOn("ctr", "Look at this node's pods, containers and images, also when the API is away")
}

func snapshotCommand() *cobra.Command {
	return passOn("snapshot", "Save, list and restore the state of the cluster")
}
