// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/waggle-net/waggle/test/internal/program"
	"github.com/waggle-net/waggle/test/internal/qemu"
)

// A Kernel is a distribution kernel unpacked in the cache.
type Kernel struct {
	Series     string // "6.1"
	Release    string // what uname -r prints in the guest
	Image      string // path of the bzImage
	ModulesDir string // path of lib/modules/<release>
}

// Fetch returns the newest Debian cloud kernel of a series, for example "6.1".
// The package is downloaded with apt on first use and kept in the user's cache,
// so later calls only ask the local package lists for the newest version.
func Fetch(ctx context.Context, series string) (*Kernel, error) {
	pkg, version, err := newestPackage(ctx, series)
	if err != nil {
		return nil, fmt.Errorf("find kernel %s: %w", series, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find cache folder: %w", err)
	}
	dir := filepath.Join(cache, "waggle", "kernels", pkg+"_"+strings.ReplaceAll(version, ":", "%3a"))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := download(ctx, pkg, version, dir); err != nil {
			return nil, fmt.Errorf("download %s: %w", pkg, err)
		}
	}
	return openKernel(series, dir)
}

// openKernel describes the kernel of an unpacked package.
func openKernel(series, dir string) (*Kernel, error) {
	// Since Debian 13 packages ship modules under usr/lib only.
	var found []string
	for _, root := range []string{"lib", "usr/lib"} {
		dirs, err := filepath.Glob(filepath.Join(dir, root, "modules", "*"))
		if err != nil {
			return nil, fmt.Errorf("open kernel %s: %w", series, err)
		}
		found = append(found, dirs...)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("open kernel %s: %d module folders in %s, want 1", series, len(found), dir)
	}
	k := &Kernel{Series: series, Release: filepath.Base(found[0]), ModulesDir: found[0]}
	k.Image = filepath.Join(dir, "boot", "vmlinuz-"+k.Release)
	if _, err := os.Stat(k.Image); err != nil {
		return nil, fmt.Errorf("open kernel %s: %w", series, err)
	}
	return k, nil
}

// newestPackage asks apt's local lists, so it works without a network.
func newestPackage(ctx context.Context, series string) (pkg, version string, err error) {
	pattern := `^linux-image-` + regexp.QuoteMeta(series) + `\..*-cloud-` + qemu.Arch + `$`
	out, err := program.Output(ctx, "", "apt-cache", "search", "--names-only", pattern)
	if err != nil {
		return "", "", err
	}
	pkg = newestName(out)
	if pkg == "" {
		return "", "", fmt.Errorf("no package matches %s (Debian 12 with its security archive has one; is apt-get update done?)", pattern)
	}
	out, err = program.Output(ctx, "", "apt-cache", "show", "--no-all-versions", pkg)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			return pkg, strings.TrimSpace(v), nil
		}
	}
	return "", "", fmt.Errorf("apt-cache shows no version of %s", pkg)
}

// newestName picks the highest version from the lines of apt-cache search,
// "name - description". The version is in the name, and only its numbers
// matter: linux-image-6.12.9+deb12-… is older than linux-image-6.12.117+deb12-….
func newestName(search string) string {
	var newest string
	var version []int
	for line := range strings.Lines(search) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v := numbers(name); slices.Compare(v, version) > 0 {
			newest, version = name, v
		}
	}
	return newest
}

var digits = regexp.MustCompile(`\d+`)

func numbers(s string) []int {
	var out []int
	for _, d := range digits.FindAllString(s, -1) {
		// A number too large for an int is no kernel version; it sorts first.
		n, _ := strconv.Atoi(d)
		out = append(out, n)
	}
	return out
}

// download unpacks a package into dir, which appears complete or not at all:
// two test runs may fetch the same kernel at the same time.
func download(ctx context.Context, pkg, version, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, err := program.Output(ctx, tmp, "apt-get", "-qq", "download", pkg+"="+version); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("%d packages after apt-get download, want 1", len(debs))
	}
	root := filepath.Join(tmp, "root")
	if _, err := program.Output(ctx, tmp, "dpkg-deb", "-x", debs[0], root); err != nil {
		return err
	}
	if err := os.Rename(root, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
