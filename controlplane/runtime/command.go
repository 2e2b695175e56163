// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Process is how a process is started.
type Process struct {
	Path string
	Args []string // without the program's name
	Env  []string
}

// ours are the variables that containerd gets anew, or not at all: those by which
// a service manager speaks to our process and not to its children, and those that
// override what is configured.
var ours = []string{
	"PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR",
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
}

// Command is containerd's process, of a configuration that has been written. It
// stays in the foreground. SIGTERM ends it, and leaves the pods as they are: it
// adopts them when it starts again.
//
// The environment is our own as os.Environ gives it; proxies that it names are
// containerd's, too.
func (c Config) Command(environ []string) Process {
	return Process{
		Path: filepath.Join(c.BinDir, programContainerd),
		Args: []string{"--config", c.Path()},
		Env:  environment(environ, c.BinDir),
	}
}

// environment is that of a program of containerd's. Its PATH starts with its own
// folder, where containerd looks for shims, and has those of the system's
// programs, such as mount.fuse.
func environment(environ []string, binDir string) []string {
	path := []string{binDir}
	env := slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		if name == "PATH" {
			path = append(path, filepath.SplitList(value)...)
		}
		return slices.Contains(ours, name) || strings.HasPrefix(name, "CONTAINERD_")
	})
	for _, dir := range programDirs {
		if !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	return append(env, "PATH="+strings.Join(path, string(os.PathListSeparator)), "HOME=/root")
}

// Ctr is containerd's command line with these arguments, for the pods' images and
// containers. Its flags go before: --namespace may be among them.
func Ctr(l layout.Layout, binDir string, environ []string, args ...string) Process {
	return Process{
		Path: filepath.Join(binDir, programCtr),
		Args: append([]string{"--address", l.ContainerdSocket(), "--namespace", namespace}, args...),
		// What will not be supported one day is said in containerd's log.
		Env: append(environment(environ, binDir), "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=true"),
	}
}
