// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// suggest words the remedy for an unknown key: the nearest known one, or all
// of them where none is near.
func suggest(name string, known map[string]int) string {
	names := slices.Sorted(maps.Keys(known))
	best, distance := "", len(name)
	for _, k := range names {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	// A third of the letters wrong is a slip; more is another word.
	if best != "" && distance <= (len(best)+2)/3 {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "use one of " + strings.Join(names, ", ")
}

// edits is the Levenshtein distance between a and b, in bytes.
func edits(a, b string) int {
	const tooLong = 64 // no key is so long, and the cost is quadratic
	if len(a) > tooLong || len(b) > tooLong {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
