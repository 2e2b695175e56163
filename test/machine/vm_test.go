// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"strings"
	"testing"
	"time"
)

// TestQEMUArgs: no guest reaches the network of the machine it runs on.
func TestQEMUArgs(t *testing.T) {
	clock := time.Date(2031, 5, 17, 12, 0, 0, 0, time.FixedZone("", 7200))
	for name, tt := range map[string]struct {
		opts Options
		want []string
	}{
		"defaults": {Options{}, []string{"-smp 1 -m 2048", "-nic none", "base=2031-05-17T10:00:00 ", "-kernel /k/vmlinuz"}},
		"network": {Options{Network: true, CPUs: 4, MemoryMiB: 4096}, []string{
			"-smp 4 -m 4096", "-nic user,model=virtio-net-pci,restrict=on,", "ipv4=on,ipv6=on", "net=192.0.2.0/24", "ipv6-net=2001:db8::/64",
		}},
	} {
		args := strings.Join(qemuArgs(tt.opts.withDefaults(), "/k/vmlinuz", "tcg,thread=multi", clock), " ")
		for _, want := range append(tt.want, "-nodefaults", "-no-user-config", "-no-reboot") {
			if !strings.Contains(args, want) {
				t.Errorf("%s: no %q in %s", name, want, args)
			}
		}
		if strings.Contains(args, "-netdev") || strings.Count(args, "-nic") != 1 {
			t.Errorf("%s: another network in %s", name, args)
		}
	}
}
