// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"strings"
	"testing"
)

func TestParseImported(t *testing.T) {
	got, err := parseImported(strings.NewReader("{\"file\":\"a\",\"images\":[\"x:1\",\"y:2\"]}\n{\"file\":\"b\",\"images\":[]}\n"))
	if err != nil || len(got) != 2 || got[0].Images[1] != "y:2" || got[1].File != "b" {
		t.Errorf("parseImported() = %v, %v", got, err)
	}
	if _, err := parseImported(strings.NewReader("unpacking x")); err == nil {
		t.Error("parseImported() accepts what is not JSON")
	}
}

func TestCtrError(t *testing.T) {
	failed := errors.New("exit status 1")
	for stderr, want := range map[string]string{
		"ctr: load a: no\n": "load a: no",
		"time=x level=info msg=\"...\"\nctr: load a: no\nload b: no\n": "load a: no\nload b: no",
		"panic: x\n": "run ctr: exit status 1: panic: x",
	} {
		if got := ctrError(failed, stderr).Error(); got != want {
			t.Errorf("ctrError(%q) = %q, want %q", stderr, got, want)
		}
	}
}
