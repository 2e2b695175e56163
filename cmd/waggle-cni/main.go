// SPDX-License-Identifier: Apache-2.0

// Command waggle-cni is the CNI plugin that the container runtime executes. It
// passes each request to waggled on the same node.
package main

import (
	"os"

	"github.com/waggle-net/waggle/cni/plugin"
	"github.com/waggle-net/waggle/internal/version"
)

func main() { os.Exit(plugin.Main("CNI plugin waggle-cni " + version.String())) }
