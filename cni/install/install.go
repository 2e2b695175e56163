// SPDX-License-Identifier: Apache-2.0

// Package install puts the CNI plugin and its network configuration where the
// container runtime looks for them, and takes them away again.
//
// Each file is replaced in one step, so a runtime never executes half a plugin
// or reads half a configuration. What somebody else put there is not touched.
package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/waggle-net/waggle/cni/protocol"
)

// ErrForeign says that a file of our name is not ours.
var ErrForeign = errors.New("file is not ours")

// Names of what is installed. Runtimes take the first configuration in the
// order of names: 10 leaves room before it.
const (
	PluginName   = "waggle-cni"
	ConflistName = "10-waggle.conflist"
)

// Config says from where to where.
type Config struct {
	// Plugin is the program to install. Default: waggle-cni next to the
	// program that runs.
	Plugin string
	// BinDir is where the runtime looks for plugins. Required.
	BinDir string
	// ConfDir is where the runtime looks for network configurations. Required.
	ConfDir string
	// Socket of the daemon, if it is not protocol.DefaultSocket.
	Socket string
}

type conflist struct {
	CNIVersion string   `json:"cniVersion"`
	Name       string   `json:"name"`
	Plugins    []plugin `json:"plugins"`
}

type plugin struct {
	Type   string `json:"type"`
	Socket string `json:"socket,omitempty"`
}

// Install puts both files in place: the configuration last, as it is what makes
// a node ready in the eyes of a kubelet. Installing again changes nothing.
func Install(c Config) error {
	if err := installPlugin(c); err != nil {
		return fmt.Errorf("install CNI plugin: %w", err)
	}
	if err := installConflist(c); err != nil {
		return fmt.Errorf("install CNI configuration: %w", err)
	}
	return nil
}

// Remove takes away what Install put in place. Removing again succeeds.
func Remove(c Config) error {
	path := filepath.Join(c.ConfDir, ConflistName)
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("remove CNI configuration: %w", err)
	case !ours(have):
		return fmt.Errorf("remove CNI configuration: %s: %w: remove it yourself if you do not need it", path, ErrForeign)
	default:
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove CNI configuration: %w", err)
		}
	}
	// A plugin that was built into its place was not put there by Install.
	src, err := c.source()
	if err != nil {
		return err
	}
	dst := filepath.Join(c.BinDir, PluginName)
	if same(src, dst) {
		return nil
	}
	if err := os.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove CNI plugin: %w", err)
	}
	return nil
}

func (c Config) source() (string, error) {
	if c.Plugin != "" {
		return c.Plugin, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	return filepath.Join(filepath.Dir(exe), PluginName), nil
}

func installPlugin(c Config) error {
	path, err := c.source()
	if err != nil {
		return err
	}
	src, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: put %s next to waggled, or set cni.install to false and install it yourself", err, PluginName)
	}
	defer src.Close()
	dst := filepath.Join(c.BinDir, PluginName)
	if same(path, dst) {
		return nil
	}
	if err := os.MkdirAll(c.BinDir, 0o755); err != nil {
		return err
	}
	return replace(dst, 0o755, src)
}

func same(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func installConflist(c Config) error {
	want, err := c.conflist()
	if err != nil {
		return err
	}
	path := filepath.Join(c.ConfDir, ConflistName)
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case bytes.Equal(have, want):
		return nil
	case !ours(have):
		return fmt.Errorf("%s: %w: move it away, or set cni.install to false", path, ErrForeign)
	}
	if err := os.MkdirAll(c.ConfDir, 0o755); err != nil {
		return err
	}
	return replace(path, 0o644, bytes.NewReader(want))
}

func (c Config) conflist() ([]byte, error) {
	p := plugin{Type: PluginName}
	if c.Socket != protocol.DefaultSocket {
		p.Socket = c.Socket
	}
	b, err := json.MarshalIndent(conflist{CNIVersion: "1.1.0", Name: "waggle", Plugins: []plugin{p}}, "", "  ")
	return append(b, '\n'), err
}

// ours says whether a configuration, of whichever release, is one of ours.
func ours(b []byte) bool {
	var l conflist
	return json.Unmarshal(b, &l) == nil && len(l.Plugins) > 0 && l.Plugins[0].Type == PluginName
}

// replace writes a file under its name in one step, durably: a machine that
// loses power must not come back with an empty plugin.
func replace(path string, mode fs.FileMode, content io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".waggle-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
