// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

// TestDetectKernel reads machines that are folders, and compares what is found.
func TestDetectKernel(t *testing.T) {
	forEach(t, "testdata/detect/*.txtar", func(t *testing.T, ar *txtar.Archive) {
		root := t.TempDir()
		for _, f := range ar.Files {
			if path, ok := strings.CutPrefix(f.Name, "root/"); ok {
				mustWrite(t, filepath.Join(root, path), f.Data)
			}
		}
		host, err := detectKernel(root)
		got := ""
		if err != nil {
			got = "error: " + strings.ReplaceAll(err.Error(), root, "") + "\n"
		}
		b, err := yaml.Marshal(struct {
			Cgroups               int
			Driver                string
			SysResource, AppArmor bool
		}{host.CgroupVersion, host.CgroupDriver, host.SysResource, host.AppArmor})
		if err != nil {
			t.Fatal(err)
		}
		compare(t, ar, "want", got+string(b))
	})
}

func TestParseRuncVersion(t *testing.T) {
	for out, want := range map[string]string{
		"runc version 1.1.5+ds1\ncommit: x\n": "1.1.5+ds1",
		"runc version 1.5.0-rc.1\n":           "1.5.0-rc.1",
		"runc version 1.1.0":                  "1.1.0",
		"runc version 1.0.3\n":                "error: version 1.0.3 is too old: install runc 1.1.0 or newer",
		"crun version 1.8.1\n":                `error: it says "crun version 1.8.1": it is not runc`,
		"":                                    `error: it says "": it is not runc`,
		"runc version unknown\n":              `error: could not parse "unknown" as version`,
	} {
		got, err := parseRuncVersion(out)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("parseRuncVersion(%q) = %q, want %q", out, got, want)
		}
	}
}

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "a/program"), nil) // not executable
	want := filepath.Join(dir, "b/program")
	mustWrite(t, want, nil)
	if err := os.Chmod(want, 0o700); err != nil {
		t.Fatal(err)
	}
	path := "relative:" + filepath.Join(dir, "a") + "::" + filepath.Join(dir, "b")
	if got := findProgram("program", path); got != want {
		t.Errorf("findProgram() = %q, want %q", got, want)
	}
	if got := findProgram("no-such-program", path); got != "" {
		t.Errorf("findProgram() = %q of a program that there is not", got)
	}
}

func TestDetectSnapshotterNeedsFolder(t *testing.T) {
	if _, _, err := detectSnapshotter(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("detectSnapshotter() error = %v, want %v", err, fs.ErrNotExist)
	}
}
