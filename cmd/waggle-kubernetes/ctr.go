// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/cri"
	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/runtime"
)

func ctrCommand() *cobra.Command { return cri.Command(nativeCtr) }

// nativeCtr replaces this process by containerd's command line, which is beside it.
func nativeCtr(l layout.Layout, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find ctr: %w", err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return fmt.Errorf("find ctr: %w", err)
	}
	p := runtime.Ctr(l, filepath.Dir(self), os.Environ(), args...)
	err = unix.Exec(p.Path, append([]string{p.Path}, p.Args...), p.Env)
	return fmt.Errorf("execute %s: %w: unpack the whole release into one folder", p.Path, err)
}
