// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A bpffs that the machine's first process does not see goes away with the
// container that mounted it.
func TestCheckShared(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	self := file("self", `1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:21 / `+root+` rw - tmpfs tmpfs rw
3 2 0:33 / `+root+` rw - bpf bpf rw
4 2 0:99 / `+root+`-other rw - bpf bpf rw
`)
	for name, c := range map[string]struct {
		host string
		want error
	}{
		"the host mounted it elsewhere": {file("same", "9 1 0:33 / /sys/fs/bpf rw - bpf bpf rw\n"), nil},
		"the host has another":          {file("other", "9 1 0:44 / /sys/fs/bpf rw - bpf bpf rw\n"), ErrPrivateBPFFS},
		"the host's view is hidden":     {filepath.Join(dir, "absent"), nil},
	} {
		if err := checkShared(root, self, c.host); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
