// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"text/template"
	"unicode"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// The programs of third_party/containerd.
const (
	programContainerd = "containerd"
	programShim       = "containerd-shim-runc-v2"
	programCtr        = "ctr"
)

// DefaultShimSockets is where containerd's shims have their sockets if the run
// folder's path is too long for them.
const DefaultShimSockets = "/run/containerd/s"

// maxShimSockets is the longest folder in bytes that containerd accepts for the
// sockets of shims: a digest of 64 bytes follows (its core/runtime/v2/socket_linux.go).
const maxShimSockets = 42

// Config is what containerd is configured with. All fields are required but those
// that say what their zero value means.
type Config struct {
	Layout layout.Layout
	// BinDir holds containerd, its shim and ctr.
	BinDir string
	// Host is what Detect found. Of its fields, only those that a user overrides
	// are to be changed.
	Host Host
	// PauseImage is the name of the image that a pod's sandbox runs. It is never
	// removed to free space, and it must be imported, for no registry has ours.
	PauseImage string
	// CNIBinDirs are where the network's plugins are looked for.
	CNIBinDirs []string
	// CNIConfDir is where the network's configuration is looked for: the first by
	// name. It may come later, and pods wait for it.
	CNIConfDir string
	// Registries say how registries are reached that are not reached by their names
	// alone. May be empty.
	Registries []Registry
	// LogLevel is one of trace, debug, info, warn and error. Empty: info.
	LogLevel string
	// ConcurrentDownloads is how many layers of an image are downloaded at the same
	// time. 0: 3, as in containerd.
	ConcurrentDownloads int
}

//go:embed containerd.toml.tmpl
var configText string

var configTemplate = template.Must(template.New("containerd.toml").Funcs(template.FuncMap{
	"toml": tomlValue,
}).Parse(configText))

// TOML is containerd's configuration file.
func (c Config) TOML() ([]byte, error) {
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	if c.ConcurrentDownloads == 0 {
		c.ConcurrentDownloads = 3
	}
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, c); err != nil {
		return nil, fmt.Errorf("write containerd's configuration: %w", err)
	}
	return b.Bytes(), nil
}

// Path is where Write writes the configuration file.
func (c Config) Path() string { return c.Layout.Generated("containerd.toml") }

// RegistriesDir is where Write writes a folder for each registry.
func (c Config) RegistriesDir() string { return c.Layout.Generated("registries") }

// ShimSockets is the folder that the shims' sockets are in.
func (c Config) ShimSockets() string { return ShimSockets(c.Layout) }

// ShimSockets is the folder that the sockets of a node's shims are in: below its
// run folder, unless that has too long a path.
func ShimSockets(l layout.Layout) string {
	if dir := filepath.Join(l.ContainerdState(), "s"); len(dir) <= maxShimSockets {
		return dir
	}
	return DefaultShimSockets
}

// The methods below are what the template asks for.

// Shim is the path of the shim.
func (c Config) Shim() string { return filepath.Join(c.BinDir, programShim) }

// TempDir holds what is being unpacked: on the same disk as where it goes.
func (c Config) TempDir() string { return filepath.Join(c.Layout.ContainerdDir(), "tmp") }

// RuncRoot holds the state of containers that runc keeps.
func (c Config) RuncRoot() string { return filepath.Join(c.Layout.ContainerdState(), "runc") }

// Systemd says whether runc asks systemd for cgroups.
func (c Config) Systemd() bool { return c.Host.CgroupDriver == DriverSystemd }

// Platform is what images are unpacked for.
func (c Config) Platform() string { return "linux/" + goruntime.GOARCH }

// tomlValue writes a value so that TOML reads it: JSON's numbers, strings and
// lists of strings are also TOML's.
func tomlValue(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if i := strings.IndexFunc(string(b), unicode.IsControl); i >= 0 {
		return "", fmt.Errorf("control character in %s", b) // DEL, which TOML does not allow
	}
	return string(b), nil
}
