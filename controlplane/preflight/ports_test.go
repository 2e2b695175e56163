// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// The sockets of a process that was killed outlast it for a moment, in which nobody
// can see whose they are.
func TestPortOfDyingProcess(t *testing.T) {
	tries := 0
	p := &probe{Input: Input{Root: t.TempDir()}, machine: machine{listen: func(context.Context, Port) error {
		if tries++; tries < 3 {
			return unix.EADDRINUSE
		}
		return nil
	}}}
	p.Ports = []Port{{Number: 6443, Protocol: "tcp", Address: netip.MustParseAddr("127.0.0.1"), Use: "the API"}}
	if all := p.ports(t.Context()); Failed(all) || tries != 3 {
		t.Errorf("after %d tries: %v", tries, all)
	}
}
