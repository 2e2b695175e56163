// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// suggest words the remedy for an unknown key of a struct.
func suggest(name string, known map[string]int) string {
	return Suggest(name, slices.Sorted(maps.Keys(known)))
}

// Suggest words the remedy for an unknown name: the nearest known one, or all
// of them where none is near.
func Suggest(name string, known []string) string {
	if best, ok := Nearest(name, known); ok {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "use one of " + strings.Join(known, ", ")
}

// Nearest returns the known name that may be meant by one that is not known.
func Nearest(name string, known []string) (string, bool) {
	best, distance := "", len(name)
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	// A third of the letters wrong is a slip; more is another word.
	return best, best != "" && distance <= (len(best)+2)/3
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
