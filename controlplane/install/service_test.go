// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// systemd is told only about what it runs, and only where it runs.
func TestStopUnits(t *testing.T) {
	for name, test := range map[string]struct {
		booted bool
		active string // the unit that is
		want   []string
	}{
		"without systemd": {false, UnitName, nil},
		"not installed":   {true, "", nil},
		"service":         {true, UnitName, []string{"systemctl stop " + UnitName}},
		"slice":           {true, podSlice, []string{"systemctl stop " + podSlice}},
		"shutdown":        {true, ShutdownUnitName, []string{"systemctl stop " + ShutdownUnitName}},
	} {
		t.Run(name, func(t *testing.T) {
			var ran []string
			s := system{
				booted: func() bool { return test.booted },
				command: func(_ context.Context, name string, args ...string) error {
					if args[0] != "is-active" {
						ran = append(ran, name+" "+strings.Join(args, " "))
					} else if args[len(args)-1] != test.active {
						return errors.New("inactive")
					}
					return nil
				},
			}
			stopped, err := s.stopService(t.Context())
			if err := errors.Join(err, s.stopSlice(t.Context()), s.forgetShutdown(t.Context())); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ran, test.want) || stopped != (test.want != nil && test.active == UnitName) {
				t.Errorf("ran %v, stopped %v", ran, stopped)
			}
		})
	}
}
