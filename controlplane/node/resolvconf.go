// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
)

// The system's resolv.conf, and the one of systemd-resolved that names the servers
// behind its stub.
const (
	systemResolvConf   = "/etc/resolv.conf"
	resolvedResolvConf = "/run/systemd/resolve/resolv.conf"
)

// ResolvConf is the file that pods with dnsPolicy Default get a copy of. Where the
// system's names a stub on the loopback device, pods would ask themselves: then it is
// the one of systemd-resolved with the real servers, if there is one.
func ResolvConf() string { return resolvConf(systemResolvConf, resolvedResolvConf) }

func resolvConf(system, resolved string) string {
	f, err := os.Open(system)
	if err != nil {
		return ""
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && a.IsLoopback() {
			if _, err := os.Stat(resolved); err == nil {
				return resolved
			}
		}
	}
	return system
}
