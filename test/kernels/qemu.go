// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"strconv"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

// commandLine is the guest kernel's. panic=-1 with QEMU's -no-reboot ends the
// run at once; oops=panic because a kernel that has stumbled proves nothing.
const commandLine = "console=ttyS0 quiet panic=-1 oops=panic " + wire.GuestFlag

// qemuArgs describes the machine: two serial ports, memory, no disk, no
// network card. The payload's port is file descriptor 3.
func (g *Guest) qemuArgs(accel, initramfs string) []string {
	return []string{
		"-machine", "q35", "-accel", accel, "-cpu", "max", "-smp", "2",
		"-m", strconv.Itoa(g.memoryMiB()),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none",
		"-chardev", "stdio,id=kernel,signal=off", "-serial", "chardev:kernel",
		"-chardev", "socket,id=payload,fd=3", "-serial", "chardev:payload",
		"-kernel", g.Kernel.Image, "-initrd", initramfs, "-append", commandLine,
	}
}
