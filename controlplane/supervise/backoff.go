// SPDX-License-Identifier: Apache-2.0

package supervise

import "time"

const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 30 * time.Second
	// goodLife is how long a process must have lived for its end to be a new trouble.
	goodLife = time.Minute
)

// backoff says how long to wait before the next start. The zero value is that of a
// child that has never failed.
type backoff struct{ last time.Duration }

func (b *backoff) next(lived time.Duration) time.Duration {
	if b.last == 0 || lived >= goodLife {
		b.last = firstDelay
	} else {
		b.last = min(2*b.last, maxDelay)
	}
	return b.last
}
