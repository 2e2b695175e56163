// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the checks find into testdata")

// tree is files by path.
type tree map[string]string

// cases of an archive: the first element of each file's name is its case.
func cases(a *txtar.Archive) (names []string, trees map[string]tree) {
	trees = map[string]tree{}
	for _, f := range a.Files {
		name, path, _ := strings.Cut(f.Name, "/")
		if trees[name] == nil {
			trees[name] = tree{}
			names = append(names, name)
		}
		trees[name][path] = string(f.Data)
	}
	return names, trees
}

// TestChecks runs the check that a file of testdata is named after on the healthy
// machine with the files of a case laid over it. Besides files of the machine, a
// case may have:
//
//	input    fields of Input
//	machine  what system calls say, see fake
//	links    symbolic links, a line each: path and target
//	remove   files that the healthy machine has, a line each
//	want     what is found
func TestChecks(t *testing.T) {
	healthy, worst := mustHealthy(t), map[string]Level{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("testdata holds %d archives, %v", len(files), err)
	}
	for _, file := range files {
		check := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".txtar"), "-", " ")
		if check == "healthy" {
			continue
		}
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names, trees := cases(a)
		for _, name := range names {
			t.Run(check+"/"+name, func(t *testing.T) {
				got, level := findings(t, healthy, trees[name], check)
				worst[check] = max(worst[check], level)
				if *update {
					setWant(a, name+"/want", got)
				} else if diff := cmp.Diff(trees[name]["want"], got); diff != "" {
					t.Errorf("found (-want +got):\n%s", diff)
				}
			})
		}
		if *update {
			if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range checks {
		if worst[c.name] == OK && c.name != "forwarding" { // which waggled sees to
			t.Errorf("no case of %q is not fine", c.name)
		}
	}
}

func setWant(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
			return
		}
	}
}

func mustHealthy(t *testing.T) tree {
	t.Helper()
	a, err := txtar.ParseFile("testdata/healthy.txtar")
	if err != nil {
		t.Fatal(err)
	}
	healthy := tree{}
	for _, f := range a.Files {
		healthy[f.Name] = string(f.Data)
	}
	return healthy
}

// The healthy machine has one finding a check, and all of them are fine. What
// applies to no machine without a configuration is not shown.
func TestHealthy(t *testing.T) {
	p := newProbe(t, mustHealthy(t), tree{})
	all := run(t.Context(), p)
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
		if f.Level != OK || f.Remedy != "" || f.Message == "" {
			t.Errorf("found %+v", f)
		}
	}
	for _, c := range checks {
		if !slices.Contains([]string{"programs", "dataplane", "ports", "ranges"}, c.name) && !slices.Contains(names, c.name) {
			t.Errorf("%s found nothing", c.name)
		}
	}
	if Failed(all) {
		t.Error("failed")
	}
}

func findings(t *testing.T, healthy, over tree, check string) (text string, worst Level) {
	t.Helper()
	p := newProbe(t, healthy, over)
	i := slices.IndexFunc(checks, func(c struct {
		name string
		run  func(*probe, context.Context) []Finding
	}) bool {
		return c.name == check
	})
	if i < 0 {
		t.Fatalf("there is no check %q", check)
	}
	var b strings.Builder
	for _, f := range checks[i].run(p, t.Context()) {
		fmt.Fprintf(&b, "%s %s\n", f.Level, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "  -> %s\n", f.Remedy)
		}
		if (f.Level == OK) != (f.Remedy == "") {
			t.Errorf("level %s with remedy %q", f.Level, f.Remedy)
		}
		worst = max(worst, f.Level)
	}
	return strings.ReplaceAll(b.String(), p.Root, ""), worst
}

func TestRender(t *testing.T) {
	var b bytes.Buffer
	err := Render(&b, []Finding{
		{OK, "kernel", "Linux 6.12.1 on amd64", ""},
		{Warn, "limits", "few instances", "sysctl -w one"},
		{Warn, "limits", "few files", "ulimit"},
		{Fail, "data folder", "full", "free space"},
	})
	const want = `LEVEL  CHECK        FOUND
ok     kernel       Linux 6.12.1 on amd64
warn   limits       few instances
                    -> sysctl -w one
warn                few files
                    -> ulimit
fail   data folder  full
                    -> free space

1 failed, 2 warnings, 1 ok
`
	if diff := cmp.Diff(want, b.String()); err != nil || diff != "" {
		t.Errorf("rendered (-want +got), %v:\n%s", err, diff)
	}
}
