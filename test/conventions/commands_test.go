// SPDX-License-Identifier: Apache-2.0

package conventions

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A rule for targets that people type: `name: prerequisites`, no assignment.
	// Built files (bin/...) and patterns (deps-%) are means, not targets.
	makeRule = regexp.MustCompile(`(?m)^([a-zA-Z][a-zA-Z0-9_-]*):([^=\n].*)?$`)

	// make name, in a code span and as a command in a code block.
	makeSpan    = regexp.MustCompile("`(?:sudo )?make ([a-z][a-z-]*)")
	makeCommand = regexp.MustCompile(`^\s*(?:[$#] )?(?:sudo )?make ([a-z][a-z-]*)`)
)

// internalTargets serve other targets, and need no line in the help.
var internalTargets = map[string]bool{"need-root": true}

func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, m := range makeRule.FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = strings.Contains(m[2], "## ")
	}
	return documented
}

// madeIn lists the targets that a document tells people to make.
func madeIn(markdown string) []string {
	var names []string
	fenced := false
	for line := range strings.Lines(markdown) {
		call := makeSpan
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		} else if fenced {
			call = makeCommand
		}
		for _, m := range call.FindAllStringSubmatch(line, -1) {
			names = append(names, m[1])
		}
	}
	return names
}

func TestMadeIn(t *testing.T) {
	const text = "They make sense: run `make up`, then\nmake tea.\n```\n$ make shell HOST=tor\nwe make none\n  sudo make down\n```\n"
	if got, want := madeIn(text), []string{"up", "shell", "down"}; !slices.Equal(got, want) {
		t.Errorf("madeIn() = %v, want %v", got, want)
	}
}

func TestMakeTargetsAreDocumented(t *testing.T) {
	targets := makeTargets(t)
	if _, ok := targets["help"]; !ok {
		t.Fatalf("found no target help in %v: does makeRule still match the Makefile?", targets)
	}
	for name, documented := range targets {
		if !documented && !internalTargets[name] {
			t.Errorf("make target %s has no `## what it does` on its line, so make help does not list it", name)
		}
	}
}

func TestDocumentsNameRealTargets(t *testing.T) {
	targets := makeTargets(t)
	fsys := os.DirFS(root)
	named := make(map[string]bool)
	err := walk(fsys, ".", func(p string) error {
		if path.Ext(p) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		for _, name := range madeIn(string(text)) {
			if _, ok := targets[name]; !ok {
				t.Errorf("%s says `make %s`, which is no target of the Makefile", p, name)
			}
			if p == "README.md" {
				named[name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// What the README promises a newcomer.
	for _, name := range []string{"up", "test"} {
		if !named[name] {
			t.Errorf("README.md does not name `make %s`", name)
		}
	}
}
