// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

// udevRulesDir is for rules that do not outlive the boot. udev reads them by itself.
const udevRulesDir = "/run/udev/rules.d"

func udevRulesFile(dir, device string) string {
	return filepath.Join(dir, "10-waggle-"+device+".rules")
}

// writeUdevRules has NetworkManager, and systemd-networkd from version 255 on, leave a
// device alone that is about to be made. An older networkd manages only devices that
// one of its files matches. A machine without udev has nobody to tell.
func writeUdevRules(dir, device string) error {
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "control")); err != nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write udev's rules: %w", err)
	}
	text := fmt.Sprintf("# Written by waggle-lab, removed by waggle-lab down.\n"+
		"SUBSYSTEM==\"net\", KERNEL==%q, ENV{NM_UNMANAGED}=\"1\", ENV{ID_NET_MANAGED_BY}=\"waggle-lab\"\n", device)
	return writeFileAtomic(udevRulesFile(dir, device), []byte(text), 0o644)
}
