// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAwait(t *testing.T) {
	broken := errors.New("broken")
	interrupted, interrupt := context.WithCancelCause(t.Context())
	defer interrupt(nil)
	for _, row := range []struct {
		name    string
		ctx     context.Context
		timeout time.Duration
		answers []error // the last one again and again
		want    string
	}{
		{"at once", t.Context(), time.Minute, []error{nil}, ""},
		{"after a while", t.Context(), time.Minute, []error{pendingf("a"), pendingf("b"), nil}, ""},
		{"final", t.Context(), time.Minute, []error{pendingf("a"), broken}, "broken"},
		{"too late", t.Context(), time.Millisecond, []error{pendingf("etcd is starting")}, "wait for it: not within 1ms: etcd is starting"},
		{"interrupted", interrupted, time.Minute, []error{pendingf("a")}, "wait for it: the user has had enough"},
	} {
		s := newSteps(&bytes.Buffer{})
		asked := 0
		err := s.await(row.ctx, "it", row.timeout, func(context.Context) error {
			interrupt(errors.New("the user has had enough"))
			asked++
			return row.answers[min(asked, len(row.answers))-1]
		})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != row.want || asked < len(row.answers) {
			t.Errorf("%s: asked %d times, got %q, want %q", row.name, asked, got, row.want)
		}
	}
}

// What is waited for is said when it changes, and not again and again.
func TestAwaitSays(t *testing.T) {
	var out bytes.Buffer
	s := newSteps(&out)
	began, asked := time.Now(), 0
	err := s.await(t.Context(), "it", time.Minute, func(context.Context) error {
		if time.Since(began) < sayAfter {
			return pendingf("first")
		}
		if asked++; asked <= 3 {
			return pendingf("second")
		}
		return nil
	})
	if err != nil || strings.Count(out.String(), "waiting for it: second\n") != 1 || strings.Count(out.String(), "\n") > 2 {
		t.Errorf("error %v, said:\n%s", err, &out)
	}
}
