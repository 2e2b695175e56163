// SPDX-License-Identifier: Apache-2.0

package program

import (
	"strings"
	"testing"
)

// TestMissing: the message says what to install.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := Output(t.Context(), "", "qemu-system-x86_64")
	const want = "find qemu-system-x86_64: not installed (Debian package qemu-system-x86)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestOutput: what a program complains about is part of the error.
func TestOutput(t *testing.T) {
	dir := t.TempDir()
	out, err := Output(t.Context(), dir, "cp", "/dev/null", "copy")
	if err != nil || out != "" {
		t.Errorf("got %q, %v", out, err)
	}
	t.Setenv("LC_ALL", "C")
	_, err = Output(t.Context(), dir, "cp", "absent", "other")
	if err == nil || !strings.Contains(err.Error(), "exit status 1: cp: cannot stat 'absent'") {
		t.Errorf("error %v, want one that quotes the program", err)
	}
}
