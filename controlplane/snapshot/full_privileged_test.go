// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package snapshot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// smallDisk is a file system of that size. It is mounted nowhere, and gone when its
// descriptor is closed.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	must(t, err)
	defer unix.Close(fs)
	must(t, unix.FsconfigSetString(fs, "size", size))
	must(t, unix.FsconfigCreate(fs))
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// incompressible is more than a small disk has room for.
func incompressible() string {
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 1<<20)
	random.Read(b)
	return string(b)
}

// A disk that is full while etcd's database is fetched, or while the archive is
// written, gets one clear error, and nothing is left on it.
func TestFullDiskSave(t *testing.T) {
	s := start(t, newLayout(t))
	for i := range 4 {
		s.put(t, fmt.Sprint(i), incompressible())
	}
	for _, size := range []string{"1m", "6m"} {
		dir := smallDisk(t, size)
		_, err := s.saver().Save(t.Context(), filepath.Join(dir, "x"))
		if err == nil || !strings.Contains(err.Error(), "no space left on device: free space in the file system of "+dir) {
			t.Errorf("%s: got %v", size, err)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("%s: left %q", size, left)
		}
	}
	if _, err := s.saver().Save(t.Context(), filepath.Join(smallDisk(t, "16m"), "x")); err != nil {
		t.Errorf("with room enough: %v", err)
	}
}

// Whether there is room is known before the state that is there is touched.
func TestFullDiskRestore(t *testing.T) {
	file, used := saved(t)
	l := layout.Layout{Data: filepath.Join(smallDisk(t, "100m"), "data"), Run: used.Run}
	must(t, os.CopyFS(l.PKIDir(), os.DirFS(used.PKIDir())))
	before := contents(t, l.Data)
	_, err := restore(t, l, file, true)
	if err == nil || !strings.Contains(err.Error(), "restoring it needs 128.") || !strings.Contains(err.Error(), "MiB: free space there") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, contents(t, l.Data)); diff != "" {
		t.Errorf("the data folder changed (-before +after):\n%s", diff)
	}
	// Full in the midst of it: the room that was free has been used since.
	small := layout.Layout{Data: filepath.Join(smallDisk(t, "30k"), "data"), Run: used.Run}
	must(t, os.Mkdir(small.Data, 0o700))
	r := Restorer{Layout: small, Programs: ours}
	must(t, r.mkdir(r.staging().Data))
	err = r.unpack(Member{Name: databaseName}, bytes.NewReader([]byte(incompressible())))
	if remedy := roomRemedy(err, small.Data); remedy == "" {
		t.Errorf("got %v, which has no remedy", err)
	}
}
