// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"net"
	"os"
	"testing"
)

// TestAwaitNodeAfterKill: a node that is known from before is no reason to end, although
// the socket of the daemon that was killed is still there to be looked at.
func TestAwaitNodeAfterKill(t *testing.T) {
	cfg := clusterConfig(t)
	dir, err := os.MkdirTemp("", "waggled") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg.RunDir, cfg.PodCIDRs = dir, prefixes("10.244.1.0/24")
	d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	for range 200 {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.APISocket()})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.awaitNode(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(cfg.APISocket()); err != nil {
			t.Fatal(err)
		}
	}
}
