// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/controlplane/layout"
)

func TestClaim(t *testing.T) {
	const mine = `{"layout": 1, "waggle": "v0.5.0", "kubernetes": "v1.36.4"}`
	for name, row := range map[string]struct {
		before string // empty: no file
		want   string // part of the error, empty for none
	}{
		"empty folder": {"", ""},
		"the same":     {mine, ""},
		"older patch":  {`{"layout": 1, "waggle": "v0.4.9", "kubernetes": "v1.36.1"}`, ""},
		"newer patch":  {`{"layout": 1, "waggle": "v0.5.1", "kubernetes": "v1.36.9"}`, ""},
		"last minor":   {`{"layout": 1, "waggle": "v0.4.0", "kubernetes": "v1.35.9-rc.1"}`, ""},
		"newer minor": {`{"layout": 1, "waggle": "v0.6.0", "kubernetes": "v1.37.0"}`,
			"was written by waggle-kube v0.6.0 (Kubernetes v1.37.0), and this one has v1.36.4: install that version or newer, or restore a snapshot"},
		"newer major": {`{"layout": 1, "waggle": "v9", "kubernetes": "v2.0.0"}`, "install that version or newer"},
		"minor skipped": {`{"layout": 1, "waggle": "v0.3.0", "kubernetes": "v1.34.6"}`,
			"upgraded one minor version at a time: start one with v1.35 first"},
		"newer layout": {`{"layout": 2, "waggle": "v0.7.0", "kubernetes": "v1.36.4"}`,
			"in layout 2, and this one knows layouts up to 1: install v0.7.0 or newer"},
		"no layout":     {`{"waggle": "v0.5.0", "kubernetes": "v1.36.4"}`, "layout 0, which never was"},
		"no Kubernetes": {`{"layout": 1, "waggle": "v0.5.0"}`, `"" is not a version of Kubernetes`},
		"cut":           {mine[:20], "is damaged"},
		"nothing":       {" ", "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			l := layout.Layout{Data: t.TempDir()}
			if row.before != "" {
				if err := os.WriteFile(l.VersionFile(), []byte(row.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			now := Programs{Waggle: "v0.5.0", Kubernetes: "v1.36.4"}
			err := Claim(l, now)
			after, _ := os.ReadFile(l.VersionFile())
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), l.Data) {
					t.Errorf("got %v, want %q and the folder", err, row.want)
				}
				if string(after) != row.before {
					t.Errorf("the file was changed to %s", after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := read(l.VersionFile()); err != nil || *got != (content{1, now}) {
				t.Errorf("file holds %s, %v", after, err)
			}
			if left, _ := filepath.Glob(filepath.Join(l.Data, "*.new")); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestClaimStateOfUnknownVersion(t *testing.T) {
	l := layout.Layout{Data: t.TempDir()}
	if err := os.Mkdir(l.EtcdDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	err := Claim(l, Programs{Waggle: "v0.5.0", Kubernetes: "v1.36.4"})
	if err == nil || !strings.Contains(err.Error(), "restore") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(l.VersionFile()); err == nil {
		t.Error("the folder was claimed")
	}
}

func TestClaimUnstamped(t *testing.T) {
	err := Claim(layout.Layout{Data: t.TempDir()}, Programs{Waggle: "unknown", Kubernetes: ""})
	if err == nil || !strings.Contains(err.Error(), "built without its version") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseMinor(f *testing.F) {
	f.Add("v1.36.4")
	f.Add("v1.36")
	f.Fuzz(func(t *testing.T, version string) {
		m, err := parseMinor(version)
		if err != nil {
			return
		}
		if again, err := parseMinor(m.String() + ".0"); err != nil || again != m {
			t.Errorf("%q is %v, and that is %v, %v", version, m, again, err)
		}
	})
}
