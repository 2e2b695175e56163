// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tunables are the sysctls of the whole machine that a kubelet sets, and ends when it
// cannot (setupKernelTunables in k8s.io/kubernetes/pkg/kubelet/cm). One of them makes
// an oops a panic: not on a machine that only lent us its kernel.
var tunables = []string{
	"vm/overcommit_memory",
	"vm/panic_on_oom",
	"kernel/panic",
	"kernel/panic_on_oops",
	"kernel/keys/root_maxkeys",
	"kernel/keys/root_maxbytes",
}

// lendTunables covers each of them with a file of the host's own, which starts with
// the machine's value and may be written without any effect.
func (h *Host) lendTunables() error {
	for _, name := range tunables {
		machine, own := filepath.Join("/proc/sys", name), filepath.Join(h.Dir(), "tunables", name)
		value, err := os.ReadFile(machine)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(own, value, 0o644); err != nil {
			return err
		}
		if err := unix.Mount(own, machine, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", own, machine, err)
		}
	}
	return nil
}
