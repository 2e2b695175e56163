// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"strings"
	"testing"
)

func TestConsole(t *testing.T) {
	var out strings.Builder
	c := &console{out: &out}
	for _, line := range []string{
		"[  OK  ] Started one.",
		"\x1b[K[  *** ] Job two.service/start running (21s / 5min 19s)",
		"\x1bM\x1b[K[ ***  ] Job two.service/start running (22s / 5min 19s)",
		"\x1bM\x1b[K[*     ] Job three.service/start running (1s / no limit)",
		"\x1bM\x1b[K[  OK  ] Started three.",
		"[    2.0] Kernel panic - not syncing: Fatal exception",
		"[    2.1] Kernel panic - not syncing: again",
	} {
		c.line(line)
	}
	const want = `[  OK  ] Started one.
[  *** ] Job two.service/start running (21s / 5min 19s)
[*     ] Job three.service/start running (1s / no limit)
[  OK  ] Started three.
[    2.0] Kernel panic - not syncing: Fatal exception
[    2.1] Kernel panic - not syncing: again
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if got := c.panicLine(); got != "[    2.0] Kernel panic - not syncing: Fatal exception" {
		t.Errorf("panic is %q", got)
	}
	if got := strings.Count(c.text(), "\n\t"); got != 6 {
		t.Errorf("the tail has %d lines, want 6", got)
	}
}
