// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/waggle-net/waggle/cni/protocol"
)

func config(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "built", PluginName)
	write(t, src, "the plugin")
	return Config{Plugin: src, BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "conf"), Socket: protocol.DefaultSocket}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInstallAndRemove(t *testing.T) {
	c := config(t)
	plugin, conf := filepath.Join(c.BinDir, PluginName), filepath.Join(c.ConfDir, ConflistName)
	for range 2 {
		if err := Install(c); err != nil {
			t.Fatal(err)
		}
		if got := read(t, plugin); got != "the plugin" {
			t.Errorf("the plugin is %q", got)
		}
		list, err := libcni.NetworkConfFromFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		if list.Name != "waggle" || list.CNIVersion != "1.1.0" || list.Plugins[0].Network.Type != PluginName {
			t.Errorf("the configuration is %s", list.Bytes)
		}
	}
	if fi, err := os.Stat(plugin); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the plugin's mode is %v, %v", fi.Mode(), err)
	}
	// A new release replaces both; nothing temporary stays.
	write(t, c.Plugin, "a newer plugin")
	c.Socket = "/elsewhere/cni.sock"
	if err := Install(c); err != nil {
		t.Fatal(err)
	}
	if got := read(t, plugin); got != "a newer plugin" {
		t.Errorf("the plugin is %q", got)
	}
	if got := read(t, conf); !strings.Contains(got, `"socket": "/elsewhere/cni.sock"`) {
		t.Errorf("the configuration is %s", got)
	}
	for range 2 {
		if err := Remove(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{c.BinDir, c.ConfDir} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v, %v", dir, left, err)
		}
	}
}

// Somebody else's file of our name is neither replaced nor removed.
func TestForeign(t *testing.T) {
	c := config(t)
	conf := filepath.Join(c.ConfDir, ConflistName)
	const foreign = `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}`
	write(t, conf, foreign)
	if err := Install(c); !errors.Is(err, ErrForeign) {
		t.Errorf("install: %v", err)
	}
	if err := Remove(c); !errors.Is(err, ErrForeign) {
		t.Errorf("remove: %v", err)
	}
	if got := read(t, conf); got != foreign {
		t.Errorf("the file is now %s", got)
	}
}

// A plugin that is in its place already is left there by both.
func TestBuiltInPlace(t *testing.T) {
	c := config(t)
	c.BinDir = filepath.Dir(c.Plugin)
	if err := errors.Join(Install(c), Remove(c)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c.Plugin); got != "the plugin" {
		t.Errorf("the plugin is %q", got)
	}
}

func TestNoPlugin(t *testing.T) {
	c := config(t)
	c.Plugin += "-missing"
	if err := Install(c); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "cni.install") {
		t.Errorf("install without a plugin: %v", err)
	}
}
