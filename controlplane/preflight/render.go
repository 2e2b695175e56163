// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"io"
	"strings"
)

// Render writes the findings as a table for people, each remedy below what it
// is for, and how many there are of each level.
func Render(w io.Writer, all []Finding) error {
	width := len("CHECK")
	var count [Fail + 1]int
	for _, f := range all {
		width = max(width, len(f.Name))
		count[f.Level]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "LEVEL  %-*s  FOUND\n", width, "CHECK")
	last := ""
	for _, f := range all {
		name := f.Name
		if name == last {
			name = "" // one more finding of the same check
		}
		last = f.Name
		fmt.Fprintf(&b, "%-5s  %-*s  %s\n", f.Level, width, name, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "       %-*s  -> %s\n", width, "", f.Remedy)
		}
	}
	fmt.Fprintf(&b, "\n%d failed, %d warnings, %d ok\n", count[Fail], count[Warn], count[OK])
	_, err := io.WriteString(w, b.String())
	return err
}
