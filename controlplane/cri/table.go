// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// shortID is how much of an id a table shows. It is enough to name it again.
const shortID = 13

// nothing stands in a table for what there is none of.
const nothing = "<none>"

// output is how a command prints a list.
type output struct {
	format  string
	quiet   bool
	formats []string
}

// addOutput adds -o with these formats, and -q. The first format is the default.
func addOutput(cmd *cobra.Command, formats ...string) *output {
	o := &output{formats: formats}
	cmd.Flags().StringVarP(&o.format, "output", "o", formats[0], "what to print: "+strings.Join(formats, ", "))
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print ids alone")
	cmd.MarkFlagsMutuallyExclusive("output", "quiet")
	return o
}

func (o *output) check() error {
	if !slices.Contains(o.formats, o.format) {
		return fmt.Errorf("unknown output %q: use %s", o.format, strings.Join(o.formats, ", "))
	}
	return nil
}

func (o *output) json() bool { return o.format == "json" }
func (o *output) wide() bool { return o.format == "wide" }

// id is an id as a table has it.
func (o *output) id(id string) string {
	if o.wide() {
		return id
	}
	return truncate(id)
}

func truncate(id string) string {
	// The digest's name says nothing.
	if id = strings.TrimPrefix(id, "sha256:"); len(id) > shortID {
		return id[:shortID]
	}
	return id
}

func writeIDs(w io.Writer, ids []string) error {
	for _, id := range ids {
		if _, err := fmt.Fprintln(w, id); err != nil {
			return fmt.Errorf("write ids: %w", err)
		}
	}
	return nil
}

// table is text in columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cells[i] = printable(cell); cells[i] == "" {
			cells[i] = nothing
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t")) // flush tells what went wrong
}

func (t *table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// printable keeps names that somebody chose from moving columns or the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// ago words a time in nanoseconds since 1970.
func ago(now time.Time, nanos int64) string {
	d := now.Sub(time.Unix(0, nanos))
	if nanos == 0 || d < 0 {
		// The clock went back since: an age would mislead.
		return time.Unix(0, nanos).UTC().Format(time.RFC3339)
	}
	return units.HumanDuration(d) + " ago"
}

// size words bytes, in powers of 1000 as image registries do.
func size(bytes uint64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }

func newestFirst(aTime, bTime int64, aID, bID string) int {
	return cmp.Or(cmp.Compare(bTime, aTime), cmp.Compare(aID, bID))
}

// writeProto writes a message of the runtime's interface in its JSON form, whose
// spaces vary on purpose unless they are made anew.
func writeProto(w io.Writer, m proto.Message) error {
	b, err := protoJSON(m)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	out.WriteByte('\n')
	if _, err := out.WriteTo(w); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func protoJSON(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return b, nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // commands are full of < and &
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
