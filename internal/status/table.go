// SPDX-License-Identifier: Apache-2.0

package status

import (
	"strconv"
	"strings"
)

// table is aligned text. Columns whose head began with ">" are numbers and
// aligned to the right.
type table struct {
	head  []string
	right []bool
	rows  [][]string
}

func newTable(columns ...string) table {
	var t table
	for _, c := range columns {
		name, right := strings.CutPrefix(c, ">")
		t.head = append(t.head, name)
		t.right = append(t.right, right)
	}
	return t
}

// add adds a row; an empty cell is shown as "-", so that columns can be cut.
func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = ascii(c)
		if c == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(b *strings.Builder) {
	if len(t.rows) == 0 {
		b.WriteString("  none\n")
		return
	}
	rows := append([][]string{t.head}, t.rows...)
	width := make([]int, len(t.head))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], len(c))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-len(c))
			if t.right[i] {
				c, pad = pad+c, ""
			}
			line.WriteString("  " + c + pad)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// ascii escapes what is not printable ASCII: a name from elsewhere must not be
// able to move the cursor of whoever looks at it.
func ascii(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			q := strconv.QuoteToASCII(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}
