// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting {
		return debug.BuildSetting{Key: key, Value: value}
	}
	revision := setting("vcs.revision", "0123456789abcdef0123")
	modified := setting("vcs.modified", "true")

	for name, tt := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"no info":  {nil, "v1.2.3 ("},
		"no vcs":   {&debug.BuildInfo{}, "v1.2.3 ("},
		"clean":    {&debug.BuildInfo{Settings: []debug.BuildSetting{revision}}, "v1.2.3, commit 0123456789ab ("},
		"modified": {&debug.BuildInfo{Settings: []debug.BuildSetting{revision, modified}}, "v1.2.3, commit 0123456789ab (modified) ("},
	} {
		t.Run(name, func(t *testing.T) {
			got := describe("v1.2.3", tt.info)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("describe() = %q, want it to start with %q", got, tt.want)
			}
			if !strings.Contains(got, runtime.Version()) {
				t.Errorf("describe() = %q, want it to name %s", got, runtime.Version())
			}
		})
	}
}
