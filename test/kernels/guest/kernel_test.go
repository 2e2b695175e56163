// SPDX-License-Identifier: Apache-2.0

//go:build guest

package guest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// releaseEnv is set by the host to the release of the kernel it booted.
const releaseEnv = "WAGGLE_KERNEL_RELEASE"

func TestKernelRelease(t *testing.T) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	t.Logf("uname -r: %s", release)
	if want := os.Getenv(releaseEnv); release != want {
		t.Errorf("kernel release %q, want %q", release, want)
	}
}

// TestBTF: CO-RE needs the kernel's own types.
func TestBTF(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var skb *btf.Struct
	if err := spec.TypeByName("sk_buff", &skb); err != nil {
		t.Fatal(err)
	}
}

// TestBPFFS: a map pinned in the BPF file system is found again by its path.
func TestBPFFS(t *testing.T) {
	const root = "/sys/fs/bpf"
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		t.Fatalf("%s has file system type %#x, want %#x", root, fs.Type, unix.BPF_FS_MAGIC)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "pin_test", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	path := filepath.Join(root, "pin_test")
	if err := m.Pin(path); err != nil {
		t.Fatal(err)
	}
	defer m.Unpin()
	if err := m.Put(uint32(0), uint32(42)); err != nil {
		t.Fatal(err)
	}
	again, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var value uint32
	if err := again.Lookup(uint32(0), &value); err != nil || value != 42 {
		t.Fatalf("pinned map has value %d, error %v, want 42", value, err)
	}
}
