// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"crypto/sha256"
	_ "embed" // for the sources below
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/test/internal/program"
	"github.com/waggle-net/waggle/test/internal/qemu"
	"github.com/waggle-net/waggle/test/kernels"
)

// What decides an image's content decides its name: a changed line here is
// another image.
var (
	//go:embed recipe.go
	recipeSource string
	//go:embed image.go
	imageSource string
)

// diskSize is what the guest sees. The files that hold it are sparse.
const diskSize = "8G"

// rootImage returns the file system image of a Debian with a kernel's modules.
// It is built on first use, which needs root, and kept in the user's cache.
func rootImage(ctx context.Context, kernel *kernels.Kernel, say io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	sum := sha256.Sum256([]byte(recipeSource + imageSource + kernel.ModulesDir))
	dir := filepath.Join(cache, "waggle", "machine", hex.EncodeToString(sum[:8]))
	image := filepath.Join(dir, "root.img")
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	if os.Geteuid() != 0 {
		return "", errors.New("build root image: not root (run the test once as root; the image is kept below " + cache + ")")
	}
	fmt.Fprintf(say, "machine: building the root image of Debian %s, kernel %s, once: takes a minute\n", release, kernel.Release)
	if err := buildImage(ctx, kernel, dir); err != nil {
		return "", fmt.Errorf("build root image: %w", err)
	}
	return image, nil
}

// buildImage makes dir, which appears complete or not at all: two test runs may
// build the same image at the same time.
func buildImage(ctx context.Context, kernel *kernels.Kernel, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, done := filepath.Join(tmp, "root"), filepath.Join(tmp, "done")
	if err := os.Mkdir(done, 0o755); err != nil {
		return err
	}
	if err := bootstrap(ctx, tmp, root); err != nil {
		return err
	}
	if err := settle(root); err != nil {
		return err
	}
	if err := addModules(ctx, kernel, root); err != nil {
		return err
	}
	// The empty file is all holes, so that mke2fs need not write zeros.
	if _, err := program.Output(ctx, tmp, "mke2fs", "-q", "-t", "ext4", "-L", "root",
		"-E", "assume_storage_prezeroed=1,root_owner=0:0", "-d", root, filepath.Join(done, "root.img"), diskSize); err != nil {
		return err
	}
	if err := os.Rename(done, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// bootstrap installs Debian into root, from where this machine's apt has it.
func bootstrap(ctx context.Context, tmp, root string) error {
	sources, err := aptSources(ctx)
	if err != nil {
		return err
	}
	// How apt reaches its sources here, such as through a proxy.
	acquire, err := program.Output(ctx, "", "apt-config", "dump", "--no-empty", "Acquire")
	if err != nil {
		return err
	}
	conf := filepath.Join(tmp, "apt.conf")
	if err := os.WriteFile(conf, []byte(acquire), 0o600); err != nil {
		return err
	}
	args := []string{"--mode=root", "--format=directory", "--variant=minbase", "--architectures=" + qemu.Arch,
		"--include=" + strings.Join(packages, ","), "--aptopt=" + conf}
	for _, pattern := range leftOut {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	cmd, err := program.Command(ctx, "mmdebstrap", append(args, release, root, "-")...)
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(sources)
	_, err = program.Run(cmd)
	return err
}

// aptSources returns a sources.list of what this machine has of the release.
func aptSources(ctx context.Context) (string, error) {
	out, err := program.Output(ctx, "", "apt-get", "indextargets",
		"--format", "$(SITE) $(RELEASE) $(COMPONENT) $(CODENAME)",
		"Created-By: Packages", "Origin: Debian", "Architecture: "+qemu.Arch)
	if err != nil {
		return "", err
	}
	sources := sourcesList(out)
	if sources == "" {
		return "", fmt.Errorf("apt has no sources of Debian %s (add them and run apt-get update)", release)
	}
	return sources, nil
}

// sourcesList turns "site release component codename" lines into those of a
// sources.list, for the release, its updates and its security archive.
func sourcesList(targets string) string {
	var out strings.Builder
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		switch f[3] {
		case release, release + "-updates", release + "-security":
			fmt.Fprintf(&out, "deb [signed-by=%s] %s %s %s\n", keyring, f[0], f[1], f[2])
		}
	}
	return out.String()
}

// settle does what an installer does last.
func settle(root string) error {
	for path, content := range settings {
		if err := os.WriteFile(root+path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	units := filepath.Join(root, "etc/systemd/system")
	for _, unit := range masked {
		link := filepath.Join(units, unit)
		if err := os.Symlink("/dev/null", link); err != nil {
			return err
		}
	}
	// This machine's way to its sources is of no use in there.
	if err := os.Remove(filepath.Join(root, "etc/apt/apt.conf.d/99mmdebstrap")); err != nil {
		return err
	}
	return os.Symlink("../"+agentUnit, filepath.Join(units, "multi-user.target.wants", agentUnit))
}

// addModules puts a kernel's modules where its package would, but uncompressed:
// an emulated CPU takes seconds to unpack what a boot loads.
func addModules(ctx context.Context, kernel *kernels.Kernel, root string) error {
	modules := filepath.Join(root, "usr/lib/modules")
	if err := os.MkdirAll(modules, 0o755); err != nil {
		return err
	}
	if _, err := program.Output(ctx, "", "cp", "-a", kernel.ModulesDir, modules); err != nil {
		return err
	}
	var packed []string
	err := filepath.WalkDir(modules, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".ko.xz") {
			packed = append(packed, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(packed, 500) {
		if _, err := program.Output(ctx, "", "xz", append([]string{"-d"}, batch...)...); err != nil {
			return err
		}
	}
	_, err = program.Output(ctx, "", "depmod", "-b", root, kernel.Release)
	return err
}
