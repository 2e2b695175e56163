// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/controlplane/image"
)

// docs is where packages say under which licence they are.
const docs = "usr/share/doc/"

// merged are the folders that every Debian has below /usr, whatever a package says.
var merged = []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"}

// A Tree is the files of packages, by their paths after all links.
type Tree struct {
	files map[string]file
}

type file struct {
	image.File
	pkg string
}

func newTree() Tree {
	t := Tree{files: make(map[string]file)}
	for _, name := range merged {
		t.files[name] = file{File: image.File{Path: name, Mode: 0o777, Link: "usr/" + name}}
	}
	return t
}

// add puts a file where its folder really is.
func (t Tree) add(pkg, name string, f image.File) error {
	dir, _, err := t.follow(path.Dir(name))
	if err != nil {
		return err
	}
	f.Path = path.Join(dir, path.Base(name))
	if slices.Contains(merged, f.Path) {
		return nil
	}
	t.files[f.Path] = file{File: f, pkg: pkg}
	return nil
}

// follow walks a path as the kernel does, and returns where it ends and the links on
// the way there.
func (t Tree) follow(name string) (end string, links []string, err error) {
	split := func(p string) []string { return strings.Split(path.Clean("/" + p)[1:], "/") }
	for rest := split(name); len(rest) > 0; {
		next := path.Join(end, rest[0])
		rest = rest[1:]
		f, ok := t.files[next]
		if !ok || f.Link == "" {
			end = next
			continue
		}
		if links = append(links, next); len(links) > 40 { // the kernel's limit
			return "", nil, fmt.Errorf("follow %s: too many links", name)
		}
		target := f.Link
		if !path.IsAbs(target) {
			target = path.Join(end, target)
		}
		rest, end = append(split(target), rest...), ""
	}
	return end, links, nil
}

// Programs returns the programs, named by their paths, and the libraries that they
// name, are linked to, or are run by; and the copyrights of the packages they are from.
func (t Tree) Programs(libraries []string, programs ...string) ([]image.File, error) {
	c := closure{tree: t, files: make(map[string]image.File)}
	for _, p := range programs {
		if err := c.take(p); err != nil {
			return nil, err
		}
	}
	for _, l := range libraries {
		if err := c.takeLibrary(l); err != nil {
			return nil, err
		}
	}
	if err := c.takeCopyrights(); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(c.files), func(a, b image.File) int { return strings.Compare(a.Path, b.Path) }), nil
}

// closure collects files of a tree.
type closure struct {
	tree  Tree
	files map[string]image.File
}

// take takes a file, the links to it, and what it needs.
func (c closure) take(name string) error {
	end, links, err := c.tree.follow(name)
	if err != nil {
		return err
	}
	f, ok := c.tree.files[end]
	if !ok {
		return fmt.Errorf("take %s: it is in none of the packages", name)
	}
	for _, l := range links {
		c.files[l] = c.tree.files[l].File
	}
	if _, known := c.files[end]; known {
		return nil
	}
	c.files[end] = f.File
	if err := c.takeNeeds(f.Content); err != nil {
		return fmt.Errorf("take what %s needs: %w", end, err)
	}
	return nil
}

// takeNeeds takes what an ELF file says that it needs. Others need nothing.
func (c closure) takeNeeds(content []byte) error {
	if !bytes.HasPrefix(content, []byte(elf.ELFMAG)) {
		return nil
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader := make([]byte, p.Filesz)
		if _, err := p.ReadAt(loader, 0); err != nil {
			return err
		}
		if err := c.take(string(bytes.TrimRight(loader, "\x00"))); err != nil {
			return err
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, l := range libraries {
		err = errors.Join(err, c.takeLibrary(l))
	}
	return err
}

// takeLibrary takes a library by its name, from where the loader looks without a
// configuration.
func (c closure) takeLibrary(name string) error {
	for _, pattern := range []string{"usr/lib/*-linux-gnu*/", "usr/lib/", "usr/lib64/"} {
		for _, p := range slices.Sorted(maps.Keys(c.tree.files)) {
			if ok, err := path.Match(pattern+name, p); ok || err != nil {
				return errors.Join(err, c.take(p))
			}
		}
	}
	return fmt.Errorf("take library %s: it is in none of the packages", name)
}

// takeCopyrights takes those of the packages that something was taken from, as their
// licences want.
func (c closure) takeCopyrights() error {
	packages := make(map[string]bool)
	for p := range c.files {
		if pkg := c.tree.files[p].pkg; pkg != "" {
			packages[pkg] = true
		}
	}
	for pkg := range packages {
		if err := c.take(docs + pkg + "/copyright"); err != nil {
			return err
		}
	}
	return nil
}
