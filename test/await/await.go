// SPDX-License-Identifier: Apache-2.0

// Package await is how tests wait for what nobody announces: by asking again
// until it is so.
package await

import (
	"testing"
	"time"
)

const (
	interval = 5 * time.Millisecond
	// patience is beyond what anything takes that is not broken.
	patience = 30 * time.Second
)

// Until returns when the condition does not fail any more, and ends the test
// with its last error if it never does.
func Until(t testing.TB, condition func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %v", patience, err)
		}
	}
}
