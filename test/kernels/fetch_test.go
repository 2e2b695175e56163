// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNewestName(t *testing.T) {
	const search = `linux-image-6.12.9+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.12.100+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
`
	if got, want := newestName(search), "linux-image-6.12.117+deb12-cloud-amd64"; got != want {
		t.Errorf("newest of 6.12 is %q, want %q", got, want)
	}
	if got, want := newestName("linux-image-6.1.0-9-cloud-amd64 - x\nlinux-image-6.1.0-56-cloud-amd64 - x\n"),
		"linux-image-6.1.0-56-cloud-amd64"; got != want {
		t.Errorf("newest of 6.1 is %q, want %q", got, want)
	}
	if got := newestName(""); got != "" {
		t.Errorf("newest of nothing is %q", got)
	}
}

func TestOpenKernel(t *testing.T) {
	for _, lib := range []string{"lib", "usr/lib"} {
		dir := t.TempDir()
		modules := filepath.Join(dir, lib, "modules", "6.1.0-1-cloud-amd64")
		image := filepath.Join(dir, "boot", "vmlinuz-6.1.0-1-cloud-amd64")
		mkdirs(t, modules, filepath.Dir(image))
		if _, err := openKernel("6.1", dir); err == nil {
			t.Errorf("%s: a kernel without an image opens", lib)
		}
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := openKernel("6.1", dir)
		if err != nil {
			t.Fatal(err)
		}
		want := Kernel{Series: "6.1", Release: "6.1.0-1-cloud-amd64", Image: image, ModulesDir: modules}
		if *got != want {
			t.Errorf("%s: got %+v, want %+v", lib, *got, want)
		}
	}
}

// TestMissingProgram: the message says what to install.
func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := Fetch(t.Context(), "6.1")
	const want = "find kernel 6.1: find apt-cache: not installed (Debian package apt)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func mkdirs(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
