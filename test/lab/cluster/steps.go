// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// steps tells what happens and when.
type steps struct {
	out   io.Writer
	start time.Time
}

func newSteps(out io.Writer) steps { return steps{out, time.Now()} }

func (s *steps) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

const (
	pollInterval = 200 * time.Millisecond
	// sayAfter is how long nothing is said of what is waited for: most is there soon.
	sayAfter = 2 * time.Second
)

// pending is what is waited for: nothing is wrong yet. Other errors are final.
type pending struct{ what string }

func (p pending) Error() string { return p.what }

func pendingf(format string, args ...any) error { return pending{fmt.Sprintf(format, args...)} }

// await asks until what is asked for is there. It says what is pending whenever that
// changes, and returns it if it stays so for too long.
func (s *steps) await(ctx context.Context, what string, timeout time.Duration, ask func(context.Context) error) error {
	late := fmt.Errorf("not within %v", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	began, last, said := time.Now(), error(nil), ""
	for {
		err := ask(ctx)
		if p := (pending{}); err == nil || ctx.Err() == nil && !errors.As(err, &p) {
			return err
		}
		if ctx.Err() == nil { // a question that was cut off says nothing
			last = err
		}
		if last != nil && last.Error() != said && time.Since(began) > sayAfter {
			said = last.Error()
			s.say("waiting for %s: %s", what, said)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, late) || last == nil {
				return fmt.Errorf("wait for %s: %w", what, cause)
			}
			return fmt.Errorf("wait for %s: %w: %w", what, late, last)
		}
	}
}
