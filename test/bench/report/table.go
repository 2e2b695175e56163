// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// line is one result: the names of a benchmark and its parts, and its metrics.
type line struct {
	names   []string
	metrics map[string]float64
}

// parse reads the output of go test -bench. Of several results of one name
// (COUNT=5), the last counts.
func parse(r io.Reader) (lines []line, cpu string, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if model, ok := strings.CutPrefix(sc.Text(), "cpu: "); ok {
			cpu = model
		}
		f := strings.Fields(sc.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		l := line{names(f[0]), make(map[string]float64)}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, "", fmt.Errorf("read %q: %w", sc.Text(), err)
			}
			l.metrics[f[i+1]] = v
		}
		if i := slices.IndexFunc(lines, func(o line) bool { return slices.Equal(o.names, l.names) }); i >= 0 {
			lines[i] = l
		} else {
			lines = append(lines, l)
		}
	}
	return lines, cpu, sc.Err()
}

// names splits the name, without the number of processors that ends it.
func names(full string) []string {
	full = strings.TrimPrefix(full, "Benchmark")
	if i := strings.LastIndexByte(full, '-'); i > 0 {
		if _, err := strconv.Atoi(full[i+1:]); err == nil {
			full = full[:i]
		}
	}
	return strings.Split(full, "/")
}

// write makes a table of each benchmark that has metrics of its own.
func write(out io.Writer, lines []line) error {
	var b strings.Builder
	for len(lines) > 0 {
		title := lines[0].names[0]
		end := slices.IndexFunc(lines, func(l line) bool { return l.names[0] != title })
		if end < 0 {
			end = len(lines)
		}
		table(&b, title, lines[:end])
		lines = lines[end:]
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func table(b *strings.Builder, title string, lines []line) {
	var units []string
	for _, l := range lines {
		for u := range l.metrics {
			if !slices.Contains(units, u) && !isRange(u) && u != "B/op" && u != "allocs/op" {
				units = append(units, u)
			}
		}
	}
	slices.SortFunc(units, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	fmt.Fprintf(b, "\n### %s\n\n| |", title)
	for _, u := range units {
		fmt.Fprintf(b, " %s |", u)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---:|", len(units)))
	for _, l := range lines {
		fmt.Fprintf(b, "| %s |", strings.Join(l.names[1:], " "))
		for _, u := range units {
			fmt.Fprintf(b, " %s |", cell(l.metrics, u))
		}
		b.WriteString("\n")
	}
}

// isRange tells whether a unit is an end of another one's range.
func isRange(unit string) bool {
	return (strings.HasPrefix(unit, "min-") || strings.HasPrefix(unit, "max-")) && unit != "max-ms"
}

// rank orders columns: rates first, then how they compare, then percentiles.
func rank(unit string) string {
	switch {
	case strings.HasSuffix(unit, "%bare"):
		return "1" + unit
	case unit == "samples":
		return "4"
	case unit == "max-ms":
		return "3"
	case strings.HasPrefix(unit, "p50"), strings.HasPrefix(unit, "p99"):
		return "2" + unit
	}
	return "0" + unit
}

// cell is a value with its range, where it has one.
func cell(m map[string]float64, unit string) string {
	v, ok := m[unit]
	if !ok {
		return ""
	}
	short, _, _ := strings.Cut(unit, "/op")
	least, ok1 := m["min-"+short]
	most, ok2 := m["max-"+short]
	if !ok1 || !ok2 {
		return number(v)
	}
	return fmt.Sprintf("%s (%s-%s)", number(v), number(least), number(most))
}

// number has three digits that matter, or all before the point.
func number(v float64) string {
	digits := 0
	for limit := 100.0; v != 0 && v < limit && digits < 2; limit /= 10 {
		digits++
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
