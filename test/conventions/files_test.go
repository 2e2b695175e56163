// SPDX-License-Identifier: Apache-2.0

package conventions

import (
	"go/ast"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// mustGoFiles parses the Go files of the tree, which are some.
func mustGoFiles(t *testing.T) []goFile {
	t.Helper()
	files, err := goFiles(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files under %s: is it the root folder?", len(files), root)
	}
	return files
}

func TestPackagesHaveComments(t *testing.T) {
	type pkg struct{ dir, name string }
	comments := make(map[pkg]string)
	for _, f := range mustGoFiles(t) {
		name := f.ast.Name.Name
		if f.isTest() {
			// Tests from outside share the comment of what they test.
			name = strings.TrimSuffix(name, "_test")
		}
		p := pkg{f.dir(), name}
		if f.ast.Doc != nil && comments[p] == "" {
			comments[p] = f.ast.Doc.Text()
		} else {
			comments[p] += ""
		}
	}
	for p, text := range comments {
		switch {
		case text == "":
			t.Errorf("package %s in %s has no comment: say above its package clause what it is for", p.name, p.dir)
		case p.name != "main" && !strings.HasPrefix(text, "Package "+p.name+" "):
			t.Errorf("the comment of package %s in %s starts %q, want %q", p.name, p.dir, firstLine(text), "Package "+p.name+" ...")
		}
	}
}

func TestFilesNameTheirLicense(t *testing.T) {
	const (
		tag  = "SPDX-License-Identifier: "
		ours = "Apache-2.0"
		// The kernel lends its GPL-only helpers to programs that say GPL, and
		// the BSD side lets other projects borrow a header.
		bpf = "GPL-2.0-only OR BSD-2-Clause"
	)
	fsys := os.DirFS(root)
	err := walk(fsys, ".", func(p string) error {
		want := ours
		switch path.Ext(p) {
		case ".c", ".h":
			if !under(p, "bpf") {
				return nil
			}
			want = bpf
		case ".go", ".sh":
		default:
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		head := strings.SplitN(string(src), "\n", 6)
		head = head[:min(5, len(head))]
		if strings.HasPrefix(head[0], "// Code generated ") {
			return nil
		}
		var got string
		for _, line := range head {
			if _, after, ok := strings.Cut(line, tag); ok {
				got = strings.TrimSpace(strings.TrimSuffix(after, "*/"))
			}
		}
		if got != want {
			t.Errorf("%s: license is %q in its first lines, want the line %q", p, got, tag+want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A privileged test that skips passes on the machine that lacks what it tests,
// and nobody learns of it: it fails there, saying what is missing. What a
// development kernel lacks is tested under test/kernels.
func TestPrivilegedTestsNeverSkip(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if !f.needsTag("privileged") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				t.Errorf("%s: calls %s: fail and say what is missing, or test it under test/kernels",
					f.fset.Position(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
