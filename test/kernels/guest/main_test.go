// SPDX-License-Identifier: Apache-2.0

//go:build guest

package guest

import (
	"fmt"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// These tests own the machine. Started on a real one by mistake, they must
	// not touch it.
	if !wire.InGuest() {
		fmt.Fprintln(os.Stderr, "not inside a test kernel (run go test -tags privileged ./test/kernels)")
		return 2
	}
	if err := setLoopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return m.Run()
}

// setLoopbackUp does what no init system has done: ip link set lo up.
func setLoopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
