// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrExhausted says that every address of a prefix is in use.
var ErrExhausted = errors.New("every address is in use")

// ErrPrefix says that a set of pod CIDRs cannot be allocated from.
var ErrPrefix = errors.New("unusable pod CIDR")

// RestingError says that no free address may be given out yet.
type RestingError struct {
	// Free counts the free addresses, Held those of them that have rested
	// but that something still refers to.
	Free, Held int
	// Wait is how long until the first address has rested, or zero when only
	// held ones are left.
	Wait time.Duration
}

func (e *RestingError) Error() string {
	if e.Wait == 0 {
		return fmt.Sprintf("all %d free addresses have rested, but the cluster still shows them in use", e.Free)
	}
	return fmt.Sprintf("all %d free addresses were released a moment ago and rest; the next one is free in %s",
		e.Free, e.Wait.Round(100*time.Millisecond))
}

func prefixError(p netip.Prefix, format string, args ...any) error {
	return fmt.Errorf("%w %s: %s", ErrPrefix, p, fmt.Sprintf(format, args...))
}
