// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "a.log")
	log, err := openLog(path)
	must(t, err)
	defer log.Close()
	r := rotation{size: 20, keep: 2}
	// After each turn: the log, the last one, the one before, and never a fourth.
	for turn, want := range [][4]string{
		{"turn 0", "", "", ""},
		{"turn 0turn 1", "", "", ""},
		{"turn 0turn 1turn 2", "", "", ""},
		{"", "turn 0turn 1turn 2turn 3", "", ""},
		{"turn 4", "turn 0turn 1turn 2turn 3", "", ""},
		{"turn 4turn 5", "turn 0turn 1turn 2turn 3", "", ""},
		{"turn 4turn 5turn 6", "turn 0turn 1turn 2turn 3", "", ""},
		{"", "turn 4turn 5turn 6turn 7", "turn 0turn 1turn 2turn 3", ""},
		{"turn 8", "turn 4turn 5turn 6turn 7", "turn 0turn 1turn 2turn 3", ""},
		{"turn 8turn 9", "turn 4turn 5turn 6turn 7", "turn 0turn 1turn 2turn 3", ""},
		{"turn 8turn 9turn 10", "turn 4turn 5turn 6turn 7", "turn 0turn 1turn 2turn 3", ""},
		{"", "turn 8turn 9turn 10turn 11", "turn 4turn 5turn 6turn 7", ""},
	} {
		fmt.Fprintf(log, "turn %d", turn) // the child knows nothing of it
		must(t, r.rotate(path))
		for i, want := range want {
			name := path
			if i > 0 {
				name = fmt.Sprint(path, ".", i)
			}
			if got, _ := os.ReadFile(name); string(got) != want {
				t.Errorf("turn %d: %s holds %q, want %q", turn, filepath.Base(name), got, want)
			}
		}
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 2 {
		t.Errorf("files: %v", left)
	}
}

func TestRotateFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	r := rotation{size: 10, keep: 1}
	must(t, r.rotate(path)) // no log yet
	// Not even root can copy to where a folder is.
	must(t, os.Mkdir(path+".new", 0o700))
	for _, row := range []struct{ before, after int }{{10, 10}, {20, 20}, {21, 0}} {
		must(t, os.WriteFile(path, make([]byte, row.before), 0o600))
		err := r.rotate(path)
		if (err == nil) != (row.before <= 10) {
			t.Errorf("%d bytes: %v", row.before, err)
		}
		if lost := err != nil && strings.Contains(err.Error(), "the log is lost"); lost != (row.after == 0) || size(path) != int64(row.after) {
			t.Errorf("%d bytes became %d: %v", row.before, size(path), err)
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if got := tail(path, 0); got != "" {
		t.Errorf("no log: %q", got)
	}
	var lines strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, "line %02d\n", i) // 8 bytes
	}
	for _, row := range []struct {
		text string
		from int64
		want string
	}{
		{"", 0, ""},
		{"one\n", 0, "one"},
		{"old\nnew\n", 4, "new"},
		{"old\n", 4, ""},
		{"new\n", 400, "new"}, // rotated meanwhile
		{lines.String(), 0, strings.TrimSpace(lines.String()[90*8:])},
		{strings.Repeat("x", 2*tailBytes), 0, strings.Repeat("x", tailBytes)},
	} {
		must(t, os.WriteFile(path, []byte(row.text), 0o600))
		if got := tail(path, row.from); got != row.want {
			t.Errorf("tail of %.20q from %d is %.200q, want %.200q", row.text, row.from, got, row.want)
		}
	}
}
