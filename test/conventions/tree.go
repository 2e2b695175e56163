// SPDX-License-Identifier: Apache-2.0

// Package conventions holds tests of the tree itself: who may import whom, what
// each file starts with, that the documents name commands that exist. A habit
// that a review would otherwise repeat becomes a test here, with its reason.
package conventions

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// module is the import path of the root folder.
const module = "github.com/waggle-net/waggle"

// root is the root folder, as seen from this one.
const root = "../.."

// A goFile is a parsed Go file of the tree, whatever its build constraint.
type goFile struct {
	path string // from the root folder, with slashes
	src  string
	ast  *ast.File
	fset *token.FileSet
}

// dir is the folder of the file, from the root folder.
func (f goFile) dir() string { return path.Dir(f.path) }

// isTest says whether only tests compile the file.
func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// imports lists the import paths of the file.
func (f goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// needsTag says whether the file is compiled with the build tag only.
func (f goFile) needsTag(tag string) bool {
	for _, group := range f.ast.Comments {
		if group.Pos() > f.ast.Package {
			break
		}
		for _, c := range group.List {
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				continue
			}
			all := func(string) bool { return true }
			allButTag := func(t string) bool { return t != tag }
			if expr.Eval(all) && !expr.Eval(allButTag) {
				return true
			}
		}
	}
	return false
}

// walk calls visit for each file of our module in dir and below. Folders with a
// go.mod of their own, test data and what is not committed are left out.
func walk(fsys fs.FS, dir string, visit func(path string) error) error {
	return fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return visit(p)
		}
		switch d.Name() {
		case ".git", ".lab", "bin", "testdata", "node_modules":
			return fs.SkipDir
		}
		if p != "." {
			if _, err := fs.Stat(fsys, path.Join(p, "go.mod")); err == nil {
				return fs.SkipDir
			}
		}
		return nil
	})
}

// goFiles parses the Go files of the tree.
func goFiles(fsys fs.FS) ([]goFile, error) {
	var files []goFile
	fset := token.NewFileSet()
	err := walk(fsys, ".", func(p string) error {
		if filepath.Ext(p) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, goFile{path: p, src: string(src), ast: parsed, fset: fset})
		return nil
	})
	return files, err
}

// under says whether path p is dir or below it.
func under(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}
