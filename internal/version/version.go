// SPDX-License-Identifier: Apache-2.0

// Package version says which build this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the release, or the commit it was built from, as `git describe`
// names it. The build stamps it with -ldflags -X.
var Version = "unknown"

// Kubernetes is the release of Kubernetes that waggle-kube is made of: that of
// k8s.io/kubernetes in go.mod. The build stamps it into Kubernetes' own packages,
// which would call themselves v0.0.0 otherwise.
const Kubernetes = "v1.36.4"

// String describes the build in one line: the version, the commit where the
// build recorded one, the Go release and the platform.
func String() string {
	info, _ := debug.ReadBuildInfo()
	return describe(Version, info)
}

// describe is String for any build. A nil info has no commit.
func describe(version string, info *debug.BuildInfo) string {
	var commit string
	if info != nil {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = ", commit " + s.Value[:min(12, len(s.Value))] + commit
			case s.Key == "vcs.modified" && s.Value == "true":
				commit += " (modified)"
			}
		}
	}
	return fmt.Sprintf("%s%s (%s, %s/%s)", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
