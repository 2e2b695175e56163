// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/test/internal/program"
)

// newDisk returns a copy of the image with files in it. The copy has no name, so
// that it goes away with the last process that has it open, however that ends.
func newDisk(ctx context.Context, image string, files map[string]string) (*os.File, error) {
	// Beside the image, where a copy may share its blocks.
	disk, err := os.CreateTemp(filepath.Dir(image), "disk-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(disk.Name())
	if err == nil {
		err = copyImage(ctx, image, disk)
	}
	if err == nil {
		err = addFiles(ctx, disk, files)
	}
	if err != nil {
		disk.Close()
		return nil, err
	}
	return disk, nil
}

// childDisk is the path of a disk in a program that gets it as its first extra
// file.
const childDisk = "/proc/self/fd/3"

func copyImage(ctx context.Context, image string, disk *os.File) error {
	cmd, err := program.Command(ctx, "cp", "--sparse=always", "--reflink=auto", image, childDisk)
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{disk}
	_, err = program.Run(cmd)
	return err
}

// addFiles writes files into the disk's file system, without mounting it.
func addFiles(ctx context.Context, disk *os.File, files map[string]string) error {
	files, err := expand(files)
	if err != nil {
		return err
	}
	commands, err := debugfsCommands(files)
	if err != nil {
		return err
	}
	cmd, err := program.Command(ctx, "debugfs", "-w", "-f", "-", childDisk)
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{disk}
	cmd.Stdin = strings.NewReader(commands)
	return runDebugfs(cmd)
}

// runDebugfs finds failures where debugfs shows them: between its complaints,
// never in its exit code.
func runDebugfs(cmd *exec.Cmd) error {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run debugfs: %w: %s", err, stderr.String())
	}
	for line := range strings.Lines(stderr.String()) {
		line = strings.TrimSpace(line)
		// Folders are made without asking which there are.
		if line != "" && !strings.HasPrefix(line, "debugfs ") && !strings.Contains(line, "directory already exists") {
			return fmt.Errorf("add files: %s", line)
		}
	}
	return nil
}

// expand replaces folders by the files in them.
func expand(files map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for guest, host := range files {
		host, err := filepath.Abs(host)
		if err != nil {
			return nil, err
		}
		err = filepath.WalkDir(host, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return nil
			}
			out[path.Join(guest, strings.TrimPrefix(name, host))] = name
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("add file %s: %w", guest, err)
		}
		if !path.IsAbs(guest) || path.Clean(guest) != guest {
			return nil, fmt.Errorf("add file %s: not a clean absolute path", guest)
		}
	}
	return out, nil
}

// debugfsCommands writes files with the modes they have here, owned by root.
func debugfsCommands(files map[string]string) (string, error) {
	var out strings.Builder
	made := map[string]bool{"/": true}
	for _, guest := range slices.Sorted(maps.Keys(files)) {
		host := files[guest]
		if strings.ContainsAny(guest+host, "\"\n") {
			return "", fmt.Errorf("add file %q from %q: quotes and line ends cannot be in names", guest, host)
		}
		info, err := os.Stat(host)
		if err != nil {
			return "", fmt.Errorf("add file %s: %w", guest, err)
		}
		if !info.Mode().IsRegular() {
			return "", fmt.Errorf("add file %s: %s is no regular file", guest, host)
		}
		dir, name := path.Split(guest)
		mkdirAll(&out, made, path.Clean(dir))
		// write takes a name in the current folder only.
		fmt.Fprintf(&out, "cd \"%s\"\nwrite \"%s\" \"%s\"\n", path.Clean(dir), host, name)
		fmt.Fprintf(&out, "sif \"%s\" mode 0%o\n", guest, 0o100000|info.Mode().Perm())
		for _, field := range []string{"uid", "gid"} {
			fmt.Fprintf(&out, "sif \"%s\" %s 0\n", guest, field)
		}
	}
	return out.String(), nil
}

// mkdirAll makes the folder and those above it, each once.
func mkdirAll(out *strings.Builder, made map[string]bool, dir string) {
	if made[dir] {
		return
	}
	mkdirAll(out, made, path.Dir(dir))
	fmt.Fprintf(out, "mkdir \"%s\"\n", dir)
	made[dir] = true
}
