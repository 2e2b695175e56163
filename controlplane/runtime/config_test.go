// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// example is a configuration whose fields a test's file replaces.
func example(dir string) Config {
	return Config{
		Layout:     layout.Layout{Data: filepath.Join(dir, "var"), Run: filepath.Join(dir, "run")},
		BinDir:     "/opt/waggle/bin",
		PauseImage: "waggle.dev/pause:1",
		CNIBinDirs: []string{"/opt/cni/bin"},
		CNIConfDir: "/etc/cni/net.d",
		Host: Host{
			CgroupVersion: 2, CgroupDriver: DriverSystemd, SysResource: true, AppArmor: true,
			Snapshotter: Overlayfs, RuncPath: "/usr/sbin/runc", RuncVersion: "1.1.5",
		},
	}
}

// TestWrite writes the configuration of each file, over that of another, and
// compares all files that are then there, or the error.
func TestWrite(t *testing.T) {
	forEach(t, "testdata/config/*.txtar", func(t *testing.T, ar *txtar.Archive) {
		dir := t.TempDir()
		old := example(dir)
		old.Registries = []Registry{{Name: "old.example.com"}}
		if err := old.Write(); err != nil {
			t.Fatal(err)
		}
		before := tree(t, old.Layout.GeneratedDir(), dir)

		c := example(dir)
		i := slices.IndexFunc(ar.Files, func(f txtar.File) bool { return f.Name == "config.yaml" })
		if err := yaml.UnmarshalStrict(ar.Files[i].Data, &c); err != nil {
			t.Fatal(err)
		}
		err := c.Write()
		after := tree(t, c.Layout.GeneratedDir(), dir)
		if err != nil {
			compare(t, ar, "error", err.Error()+"\n")
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("an error, but files changed: -before +after:\n%s", diff)
			}
			return
		}
		var want []string
		for _, f := range ar.Files {
			if f.Name != "config.yaml" {
				want = append(want, f.Name)
			}
		}
		for name, content := range after {
			// All but a few tests are about the registries.
			if slices.Contains(want, name) || name != "containerd.toml" {
				compare(t, ar, name, content)
			}
		}
		for _, name := range want {
			if _, ok := after[name]; !ok {
				t.Errorf("%s has not been written", name)
			}
		}
	})
}

// tree reads all files below a folder; those of dir read as if it were the root.
func tree(t *testing.T, root, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s, want it for root alone", path, info.Mode())
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		files[name] = strings.NewReplacer(dir, "", "linux/"+goruntime.GOARCH, "linux/ARCH").Replace(string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTOMLRefusesControlCharacters(t *testing.T) {
	c := example("/")
	c.CNIConfDir = "/etc/\x7f"
	if _, err := c.TOML(); err == nil {
		t.Error("TOML() writes what TOML does not allow")
	}
}

func TestShimSockets(t *testing.T) {
	for run, want := range map[string]string{
		layout.DefaultRunDir:          "/run/waggle-kube/containerd/s",
		"/" + strings.Repeat("r", 28): "/" + strings.Repeat("r", 28) + "/containerd/s", // 42 bytes
		"/" + strings.Repeat("r", 29): DefaultShimSockets,
	} {
		if got := ShimSockets(layout.Layout{Run: run}); got != want {
			t.Errorf("ShimSockets(%s) = %s, want %s", run, got, want)
		}
	}
}

func TestCommand(t *testing.T) {
	got := example("/").Command([]string{
		"PATH=/home/me/bin:/usr/bin", "HTTPS_PROXY=http://proxy.example.com", "NOTIFY_SOCKET=/run/notify",
		"TMPDIR=/tmp/mine", "CONTAINERD_ADDRESS=/run/other.sock", "container=lxc",
	})
	want := Process{
		Path: "/opt/waggle/bin/containerd",
		Args: []string{"--config", "/var/generated/containerd.toml"},
		Env: []string{
			"HTTPS_PROXY=http://proxy.example.com", "container=lxc",
			"PATH=/opt/waggle/bin:/home/me/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin", "HOME=/root",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
