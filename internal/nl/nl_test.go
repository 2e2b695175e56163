// SPDX-License-Identifier: Apache-2.0

package nl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRetry(t *testing.T) {
	interrupted := fmt.Errorf("wrapped: %w", netlink.ErrDumpInterrupted)
	always := slices.Repeat([]error{interrupted}, MaxAttempts)
	for _, tt := range []struct {
		name  string
		errs  []error // of each attempt in turn
		want  error
		calls int
	}{
		{"at once", []error{nil}, nil, 1},
		{"after two interruptions", []error{interrupted, interrupted, nil}, nil, 3},
		{"in the last attempt", append(slices.Clone(always[1:]), nil), nil, MaxAttempts},
		{"interrupted for ever", always, netlink.ErrDumpInterrupted, MaxAttempts},
		{"another error", []error{unix.EPERM}, unix.EPERM, 1},
		{"another error after an interruption", []error{interrupted, unix.EPERM}, unix.EPERM, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			got, err := list("things", func() ([]int, error) {
				calls++
				return []int{calls}, tt.errs[calls-1]
			})
			if !errors.Is(err, tt.want) || calls != tt.calls {
				t.Fatalf("error %v after %d calls, want %v after %d", err, calls, tt.want, tt.calls)
			}
			if tt.want == nil && !slices.Equal(got, []int{tt.calls}) {
				t.Errorf("got %v, want the last answer only", got)
			}
			if tt.want != nil && (got != nil || !strings.HasPrefix(err.Error(), "list things: ")) {
				t.Errorf("got %v with error %q, want nothing and the subject", got, err)
			}
		})
	}
}

func TestLinkByNameOfNothing(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("x", 200), "waggle-none"} {
		if _, err := LinkByName(name); !IsNotFound(err) {
			t.Errorf("LinkByName(%q): error %v, want not found", name, err)
		} else if want := fmt.Sprintf("find link %q: no such network device", name); err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}
