// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/internal/program"
)

// newImage makes an empty file system.
func newImage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if _, err := program.Output(t.Context(), "", "mke2fs", "-q", "-t", "ext4", path, "4M"); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNewDisk: files and the files of folders are in the file system, which is
// sound, and nothing else is beside the image.
func TestNewDisk(t *testing.T) {
	image, here := newImage(t), t.TempDir()
	files := map[string]string{
		"/usr/local/bin/program": write(t, filepath.Join(here, "p"), "program", 0o755),
		"/usr/local/bin/other":   write(t, filepath.Join(here, "with space"), "other", 0o600),
		"/top":                   write(t, filepath.Join(here, "empty"), "", 0o644),
		"/opt":                   filepath.Join(here, "tree"),
	}
	write(t, filepath.Join(here, "tree/a"), "in a", 0o644)
	write(t, filepath.Join(here, "tree/deep/b"), "in b", 0o640)
	disk, err := newDisk(t.Context(), image, files)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if _, err := os.Stat(disk.Name()); err == nil {
		t.Errorf("%s has a name", disk.Name())
	}
	for path, want := range map[string]string{
		"/usr/local/bin/program": "program", "/usr/local/bin/other": "other", "/top": "", "/opt/a": "in a", "/opt/deep/b": "in b",
	} {
		if got := onDisk(t, disk, "debugfs", "-R", "cat "+path, childDisk); got != want {
			t.Errorf("%s has %q, want %q", path, got, want)
		}
	}
	if got := onDisk(t, disk, "debugfs", "-R", "stat /opt/deep/b", childDisk); !strings.Contains(got, "Mode:  0640") || !strings.Contains(got, "User:     0   Group:     0") {
		t.Errorf("/opt/deep/b is\n%s", got)
	}
	onDisk(t, disk, "e2fsck", "-f", "-n", childDisk) // fails where it finds a fault
}

func onDisk(t *testing.T, disk *os.File, args ...string) string {
	t.Helper()
	cmd, err := program.Command(t.Context(), args[0], args[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{disk}
	out, err := program.Run(cmd)
	if err != nil {
		t.Fatal(err, out)
	}
	return out
}

func TestNewDiskErrors(t *testing.T) {
	image, here := newImage(t), t.TempDir()
	file := write(t, filepath.Join(here, "file"), strings.Repeat("x", 8<<20), 0o644)
	quoted := write(t, filepath.Join(here, `a"b`), "", 0o644)
	link := filepath.Join(here, "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ guest, host, want string }{
		{"relative", file, "add file relative: not a clean absolute path"},
		{"/a/../b", file, "add file /a/../b: not a clean absolute path"},
		{"/a", filepath.Join(here, "absent"), "add file /a: lstat "},
		{"/a", link, "add file /a: stat "},
		{"/a", "/dev/null", "add file /a: /dev/null is no regular file"},
		{"/a", quoted, "quotes and line ends cannot be in names"},
		{"/lost+found", file, "add files: write: Ext2 file already exists"},
		{"/larger/than/the/disk", file, "Could not allocate block in ext2 filesystem"},
	} {
		disk, err := newDisk(t.Context(), image, map[string]string{tt.guest: tt.host})
		if err == nil {
			disk.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s from %s: error %v, want %s", tt.guest, tt.host, err, tt.want)
		}
	}
}
