// SPDX-License-Identifier: Apache-2.0

// Waggle-cni is the CNI plugin that the container runtime executes. It passes
// each request to waggled on the same node.
package main

import (
	"os"

	"github.com/waggle-net/waggle/cni/plugin"
)

// version is set when a release is built.
var version = "dev"

func main() {
	os.Exit(plugin.Main("CNI plugin waggle-cni " + version))
}
