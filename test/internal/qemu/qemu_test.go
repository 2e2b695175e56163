// SPDX-License-Identifier: Apache-2.0

package qemu

import "testing"

func TestAcceleratorForced(t *testing.T) {
	t.Setenv(AcceleratorEnv, "tcg")
	if got := Accelerator(t.Context(), "/nonexistent"); got != "tcg" {
		t.Errorf("got %s, want tcg", got)
	}
}
