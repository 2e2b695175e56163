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
func become(program string, args, env []string) error {
	dir, err := binDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, program)
	err = unix.Exec(path, append([]string{program}, args...), env)
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
			env := os.Environ()
			if os.Getenv("KUBECONFIG") == "" {
				l, err := layoutOf()
				if err != nil {
					return err
				}
				env = append(env, "KUBECONFIG="+l.Kubeconfig("admin"))
			}
			return become("waggle-kubernetes", append([]string{"kubectl"}, args...), env)
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
			return become("waggle-kubernetes", append([]string{name, "--data-dir", l.Data, "--run-dir", l.Run}, args...), os.Environ())
		},
	}
}

func ctrCommand() *cobra.Command {
	return passOn("ctr", "Look at this node's pods, containers and images, also when the API is away")
}

func snapshotCommand() *cobra.Command {
	return passOn("snapshot", "Save, list and restore the state of the cluster")
}
