// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArchives(t *testing.T) {
	got, err := archives(`WARNING: something
'http://mirror.example/pool/main/r/redis/redis-tools_7.0.15-1%7edeb12u10_amd64.deb' redis-tools_5%3a7.0.15-1~deb12u10_amd64.deb 991988 
'http://mirror.example/pool/main/g/glibc/libc6_2.36-9_amd64.deb' libc6_2.36-9_amd64.deb 2759320 MD5Sum:8d98f0c882f269aaee8437bcfe89346e
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"libc6_2.36-9_amd64.deb", "redis-tools_5%3a7.0.15-1~deb12u10_amd64.deb"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archives: -want +got:\n%s", diff)
	}
	for out, want := range map[string]string{
		"":                                 "it names no package",
		"Reading package lists...\n":       "it names no package",
		"'http://x/y' ../../etc/x.deb 1\n": "no package: \"'http://x/y' ../../etc/x.deb 1\"",
		"'http://x/y' index.html 1\n":      "no package",
	} {
		if _, err := archives(out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("archives(%q) error = %v, want it to say %q", out, err, want)
		}
	}
}
