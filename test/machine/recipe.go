// SPDX-License-Identifier: Apache-2.0

package machine

import "github.com/waggle-net/waggle/test/machine/internal/wire"

// release is the Debian that machines run.
const release = "bookworm"

// keyring signs it. The package debian-archive-keyring is on every Debian.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// rootDevice is a disk whose driver is built into Debian's kernels, so that
// they boot without an initramfs.
const rootDevice = "/dev/nvme0n1"

// packages are what a server has after the least of installations, runc and sudo.
var packages = []string{
	"systemd-sysv", "udev", "dbus", "runc", "iproute2", "kmod", "procps", "ifupdown", "mount", "sudo",
}

// leftOut are files that no program here reads.
var leftOut = []string{"/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"}

// masked units cost time under emulation, or would start by the moved clock.
// Nobody logs in either.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
	"e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
	"getty@tty1.service", "serial-getty@ttyS0.service",
}

// settings are the files that an installer would have written, and the agent's
// unit. The agent itself is put in with a test's own files.
var settings = map[string]string{
	"/etc/hostname": "machine\n",
	"/etc/hosts":    "127.0.0.1\tlocalhost\n127.0.1.1\tmachine\n::1\tlocalhost ip6-localhost ip6-loopback\n",
	"/etc/fstab":    rootDevice + " / ext4 errors=remount-ro 0 1\n",
	// For what an emulated processor seems to have.
	"/etc/modprobe.d/machine.conf": "blacklist kvm_amd\nblacklist powernow_k8\nblacklist acpi_cpufreq\n",
	// The name server of QEMU's network, which answers nobody.
	"/etc/resolv.conf": "nameserver 192.0.2.3\n",
	"/etc/systemd/system/" + agentUnit: `[Unit]
Description=Agent of the test
BindsTo=dev-virtio\x2dports-` + wire.PortName + `.device
After=dev-virtio\x2dports-` + wire.PortName + `.device network.target

[Service]
ExecStart=` + wire.AgentPath + `
Restart=always
RestartSec=100ms
# What a command leaves in the background is its own affair.
KillMode=process
OOMPolicy=continue
StandardError=journal+console
`,
}

// network is put in where Options.Network asks for it: ifup fails without the
// card. Autoconf would add what QEMU advertises.
const network = `auto eth0
iface eth0 inet static
	address ` + IPv4 + `/24
	gateway ` + gateway4 + `
iface eth0 inet6 static
	address ` + IPv6 + `/64
	gateway ` + gateway6 + `
	accept_ra 0
`

const networkPath = "/etc/network/interfaces.d/eth0"

const agentUnit = "waggle-machine-agent.service"

// The network card's, where Options.Network asks for one. Both gateways are
// QEMU, which answers for itself and passes nothing on.
const (
	IPv4 = "192.0.2.15"
	IPv6 = "2001:db8::15"

	gateway4 = "192.0.2.2"
	gateway6 = "2001:db8::2"
)
