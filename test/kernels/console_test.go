// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/internal/qemu"
)

func TestConsole(t *testing.T) {
	for name, tt := range map[string]struct {
		kernel, payload string
		out             string
		code            int
		err             string // its beginning
	}{
		"success": {
			kernel:  "[    1.0] booting\r\n",
			payload: "PASS\nwaggle-guest: exit 0\n",
			out:     "[    1.0] booting\nPASS\n",
		},
		"failure without newline": {
			payload: "FAILwaggle-guest: exit 1\n",
			out:     "FAIL\n",
			code:    1,
		},
		"report without newline": {
			payload: "waggle-guest: exit 3",
			code:    3,
		},
		"init failed": {
			payload: "waggle-guest: failed: load module veth: exec format error\n",
			err:     "guest init: load module veth: exec format error",
		},
		"no report": {
			payload: "=== RUN   TestX\n",
			out:     "=== RUN   TestX\n",
			err:     "guest ended without an exit line\nconsole, last 1 lines:\n\t=== RUN   TestX",
		},
		"nothing at all": {
			err: "guest ended without an exit line\nconsole is empty",
		},
		"panic wins over a report": {
			kernel:  "[    2.0] Kernel panic - not syncing: Fatal exception\n",
			payload: "waggle-guest: exit 0\n",
			out:     "[    2.0] Kernel panic - not syncing: Fatal exception\n",
			err:     "kernel panicked: [    2.0] Kernel panic - not syncing: Fatal exception\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			con := &console{out: &out}
			feed(con.kernelPort(), tt.kernel)
			feed(con.payloadPort(), tt.payload)
			code, err := con.result()
			if code != tt.code || out.String() != tt.out {
				t.Errorf("code %d, output %q, want %d, %q", code, out.String(), tt.code, tt.out)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
				t.Errorf("error %v, want %s", err, tt.err)
			}
		})
	}
}

// feed writes one byte at a time: serial ports cut lines anywhere.
func feed(p *qemu.Lines, text string) {
	for i := range len(text) {
		p.Write([]byte{text[i]})
	}
	p.Close()
}

// TestConsoleWriteFails: the caller learns that output is missing, after the
// guest has ended.
func TestConsoleWriteFails(t *testing.T) {
	con := &console{out: brokenWriter{}}
	feed(con.payloadPort(), "PASS\nwaggle-guest: exit 0\n")
	if _, err := con.result(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want %v", err, io.ErrClosedPipe)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
