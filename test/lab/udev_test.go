// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUdevRules(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(run, "rules.d")
	if err := writeUdevRules(dir, "wgl-x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("rules were written where no udev runs")
	}
	if err := os.WriteFile(filepath.Join(run, "control"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeUdevRules(dir, "wgl-x"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "10-waggle-wgl-x.rules"))
	want := `# Written by waggle-lab, removed by waggle-lab down.
SUBSYSTEM=="net", KERNEL=="wgl-x", ENV{NM_UNMANAGED}="1", ENV{ID_NET_MANAGED_BY}="waggle-lab"
`
	if err != nil || string(text) != want {
		t.Errorf("rules (error %v):\n%s\nwant:\n%s", err, text, want)
	}
}
