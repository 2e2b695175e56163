// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// programDirs are where runc and what mounts need are looked for, beside the
// folders of PATH: that of a user, or of a service, often lacks the former.
var programDirs = []string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
}

// minRunc is the first version that tells its features (runc features), which
// the kubelet is told in turn.
var minRunc = version.MustParseGeneric("1.1.0")

var errNoRunc = errors.New("find runc: not in PATH: install it, as in: apt install runc")

func detectRunc(ctx context.Context) (path, version string, err error) {
	path = findProgram("runc", os.Getenv("PATH"))
	if path == "" {
		return "", "", errNoRunc
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("run %s --version: %w: is it a program for this machine?", path, err)
	}
	if version, err = parseRuncVersion(string(out)); err != nil {
		return "", "", fmt.Errorf("run %s --version: %w", path, err)
	}
	return path, version, nil
}

// findProgram returns the absolute path of a program, empty if there is none.
func findProgram(name, path string) string {
	for _, dir := range append(filepath.SplitList(path), programDirs...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// parseRuncVersion takes the version from the first line of `runc --version`.
func parseRuncVersion(out string) (string, error) {
	first, _, _ := strings.Cut(out, "\n")
	text, ok := strings.CutPrefix(first, "runc version ")
	if !ok {
		return "", fmt.Errorf("it says %q: it is not runc", first)
	}
	v, err := version.ParseGeneric(text)
	if err != nil {
		return "", err
	}
	if v.LessThan(minRunc) {
		return "", fmt.Errorf("version %s is too old: install runc %s or newer", text, minRunc)
	}
	return text, nil
}
