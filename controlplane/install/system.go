// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// system is what installing needs of the machine besides files. Tests set it.
type system struct {
	// booted says whether systemd runs the machine, as sd_booted(3) does.
	booted func() bool
	// command runs a program, whose words are the error if it fails.
	command func(ctx context.Context, name string, args ...string) error
	// step is called before each change of a file. Default: nothing.
	step func(what, path string) error
}

func (s *system) setDefaults() {
	if s.booted == nil {
		s.booted = func() bool {
			_, err := os.Stat("/run/systemd/system")
			return err == nil
		}
	}
	if s.command == nil {
		s.command = command
	}
	if s.step == nil {
		s.step = func(string, string) error { return nil }
	}
}

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// reloadManagers has those that run read our files. One that is not there, or does
// not care, is no reason to fail: it reads them when it starts.
func (s *system) reloadManagers(ctx context.Context) {
	for _, m := range []struct {
		unit string
		run  []string
	}{
		{"systemd-udevd.service", []string{"udevadm", "control", "--reload"}},
		{"systemd-networkd.service", []string{"networkctl", "reload"}},
		{"NetworkManager.service", []string{"nmcli", "general", "reload", "conf"}},
	} {
		if s.command(ctx, "systemctl", "is-active", "--quiet", m.unit) == nil {
			_ = s.command(ctx, m.run[0], m.run[1:]...) // see above
		}
	}
}

// say tells what was done to a path.
func say(w io.Writer, verb, path, note string) {
	if note != "" {
		note = ": " + note
	}
	fmt.Fprintf(w, "%-7s %s%s\n", verb, path, note)
}
