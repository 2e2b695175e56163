// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to log in to other clusters
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// kubectl is upstream's command with these arguments.
func kubectl(args []string) int {
	// It finds its plugins, and what -v says, in the process's own arguments.
	os.Args = append([]string{"kubectl"}, args...)
	// As upstream's main does: before flags are parsed, for parts of it log already.
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args)); err != nil {
		return 1
	}
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints, and exits with the code that the error stands for
		return 1
	}
	return 0
}
