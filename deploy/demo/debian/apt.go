// SPDX-License-Identifier: Apache-2.0

// Package debian takes programs out of Debian's packages, with the libraries they need
// and nothing else, for images. The machine's own apt, of Debian or Ubuntu, says which
// packages those are and fetches them, from its sources and checked by its keys. That
// needs neither root nor a chroot, since nothing is installed.
//
//	apt-get ──> packages ──> tree ──> programs, libraries, copyrights
package debian

import (
	"bytes"
	"context"
	_ "embed" // for the sources below
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Recipe stands for what this package makes of the same packages.
var Recipe = aptSource + packageSource + treeSource

var (
	//go:embed apt.go
	aptSource string
	//go:embed package.go
	packageSource string
	//go:embed tree.go
	treeSource string
)

// config is for apt-get beside the machine's own configuration: as if nothing were
// installed, and nothing kept from earlier. What distributions run after an update
// concerns the machine's lists, and not ours.
const config = `Dir::State::status "/dev/null";
Dir::Cache::archives "%[1]s/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Debug::NoLocking "true";
APT::Install-Recommends "false";
#clear APT::Update;
`

// ownLists is config for lists of our own.
const ownLists = `Dir::State::lists "%[1]s/lists";
`

// A Set is a choice of packages, with all that they depend on.
type Set struct {
	// Archives are the names of their files, sorted: with versions and architectures.
	Archives []string

	dir   string
	wants []string
	say   io.Writer
	fresh bool // the lists are our own, of now
}

// Resolve asks apt which packages these and their dependencies are. Close removes what
// it leaves.
func Resolve(ctx context.Context, say io.Writer, packages ...string) (_ *Set, err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, errors.New("find apt-get: not installed (this is for Debian and Ubuntu)")
	}
	dir, err := os.MkdirTemp("", "waggle-debian-")
	if err != nil {
		return nil, err
	}
	s := &Set{dir: dir, wants: packages, say: say}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.MkdirAll(filepath.Join(dir, "archives/partial"), 0o755); err != nil {
		return nil, err
	}
	if err := s.configure(config); err != nil {
		return nil, err
	}
	if err := s.resolve(ctx); err != nil {
		return s, s.refresh(ctx)
	}
	return s, nil
}

// Close removes the files that were fetched.
func (s *Set) Close() error { return os.RemoveAll(s.dir) }

// Fetch downloads the packages, and returns the paths of their files. Where the
// machine's lists are older than what the mirrors have, Archives changes.
func (s *Set) Fetch(ctx context.Context) ([]string, error) {
	_, err := s.apt(ctx, append([]string{"install", "--download-only", "--yes"}, s.wants...)...)
	if err != nil {
		if s.fresh {
			return nil, err
		}
		if refreshErr := s.refresh(ctx); refreshErr != nil {
			return nil, errors.Join(err, refreshErr)
		}
		return s.Fetch(ctx)
	}
	var paths []string
	for _, name := range s.Archives {
		paths = append(paths, filepath.Join(s.dir, "archives", name))
	}
	return paths, nil
}

// refresh fetches lists of our own, since with the machine's, apt failed: they are
// absent or old, and only root can change that.
func (s *Set) refresh(ctx context.Context) error {
	fmt.Fprintln(s.say, "apt's lists of packages are absent or old: fetching the newest")
	s.fresh = true
	if err := os.MkdirAll(filepath.Join(s.dir, "lists/partial"), 0o755); err != nil {
		return err
	}
	if err := s.configure(config + ownLists); err != nil {
		return err
	}
	// A source of somebody else's that fails does not matter, if ours do not.
	_, updateErr := s.apt(ctx, "update", "--error-on=any")
	if err := s.resolve(ctx); err != nil {
		return errors.Join(updateErr, err)
	}
	return nil
}

func (s *Set) resolve(ctx context.Context) error {
	out, err := s.apt(ctx, append([]string{"install", "--print-uris"}, s.wants...)...)
	if err != nil {
		return err
	}
	s.Archives, err = archives(out)
	return err
}

// archives reads what --print-uris prints: 'URI' FILE SIZE HASH, a package a line.
func archives(out string) ([]string, error) {
	var names []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "'") {
			continue
		}
		if path.Base(f[1]) != f[1] || !strings.HasSuffix(f[1], ".deb") {
			return nil, fmt.Errorf("read the output of apt-get: no package: %q", strings.TrimSpace(line))
		}
		names = append(names, f[1])
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read the output of apt-get: it names no package: %q", out)
	}
	slices.Sort(names)
	return names, nil
}

func (s *Set) configure(text string) error {
	return os.WriteFile(filepath.Join(s.dir, "apt.conf"), fmt.Appendf(nil, text, s.dir), 0o644)
}

func (s *Set) apt(ctx context.Context, args ...string) (string, error) {
	return output(ctx, "apt-get", append([]string{"-qq", "--config-file=" + filepath.Join(s.dir, "apt.conf")}, args...)...)
}

// output runs a program, whose complaints become part of the error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}
