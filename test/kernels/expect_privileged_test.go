// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kernels

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/internal/qemu"
)

// expectError runs a guest that must fail with an error holding each text.
func expectError(t *testing.T, ctx context.Context, g *Guest, texts ...string) {
	t.Helper()
	expectErrorTo(t, ctx, g, io.Discard, texts...)
}

func expectErrorTo(t *testing.T, ctx context.Context, g *Guest, out io.Writer, texts ...string) {
	t.Helper()
	code, err := g.Run(ctx, out)
	if err == nil {
		t.Fatalf("guest exited with code %d, want an error", code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error lacks %q: %v", text, err)
		}
	}
}

// lineFunc returns a writer that calls f for each line.
func lineFunc(f func(string)) io.Writer { return &qemu.Lines{Each: f} }
