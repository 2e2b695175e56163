// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the clock of released addresses: it is the same for every
// process until the reboot that empties the store, and nobody sets it.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // the clock exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
