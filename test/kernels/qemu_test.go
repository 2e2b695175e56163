// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"strings"
	"testing"
)

// TestQEMUArgs: a guest must never reach the network of the machine it runs
// on, nor outlive a panic.
func TestQEMUArgs(t *testing.T) {
	g := &Guest{Kernel: &Kernel{Image: "/k/vmlinuz"}, MemoryMiB: 512}
	args := strings.Join(g.qemuArgs("tcg,thread=multi", "/k/initramfs"), " ")
	for _, want := range []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-nic none", "-m 512",
		"-kernel /k/vmlinuz -initrd /k/initramfs",
		"-append console=ttyS0 quiet panic=-1 oops=panic waggle.guest",
	} {
		if !strings.Contains(args, want) {
			t.Errorf("no %q in %s", want, args)
		}
	}
	if strings.Contains(args, "netdev") {
		t.Errorf("a network back end in %s", args)
	}
}

func TestGuestDefaults(t *testing.T) {
	var g Guest
	if g.memoryMiB() != defaultMemoryMiB || g.timeout() != defaultTimeout {
		t.Errorf("zero guest has %d MiB and %s", g.memoryMiB(), g.timeout())
	}
}
