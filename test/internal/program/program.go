// SPDX-License-Identifier: Apache-2.0

// Package program runs the programs of the machine that tests need, and says
// which Debian package brings one that is missing.
package program

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
)

// debianPackage names the package to install for a missing program.
var debianPackage = map[string]string{
	"apt-cache":          "apt",
	"apt-config":         "apt",
	"apt-get":            "apt",
	"cp":                 "coreutils",
	"debugfs":            "e2fsprogs",
	"depmod":             "kmod",
	"e2fsck":             "e2fsprogs",
	"dpkg-deb":           "dpkg",
	"mke2fs":             "e2fsprogs",
	"mmdebstrap":         "mmdebstrap",
	"qemu-system-x86_64": "qemu-system-x86",
	"xz":                 "xz-utils",
}

// sbin has administrators' programs, and is not on every user's path.
const sbin = "/usr/sbin/"

// Find returns the path of a program, or says which package has it.
func Find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(sbin + name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("find %s: not installed (Debian package %s)", name, debianPackage[name])
}

// Command prepares a program that runs until it ends or ctx does.
func Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := Find(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = name
	return cmd, nil
}

// Output runs a program in dir and returns what it prints.
func Output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd, err := Command(ctx, name, args...)
	if err != nil {
		return "", err
	}
	cmd.Dir = dir
	return Run(cmd)
}

// Run runs a prepared command and returns what it prints; its complaints become
// part of the error.
func Run(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", cmd.Args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// Build compiles a Go program of this module to a static binary, whose path is
// given; Go's build cache makes repeats cheap.
func Build(ctx context.Context, path, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", path,
		"github.com/waggle-net/waggle/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}
