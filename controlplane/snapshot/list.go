// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Entry is a snapshot in a folder. The fields up to Error are those of its file,
// the others those of its manifest, as far as it can be read.
type Entry struct {
	Name string `json:"name"`
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	// Time is when it was saved, or of the file if the manifest cannot be read.
	Time time.Time `json:"time"`
	// Error says what is wrong with it. Empty: it can be restored.
	Error string `json:"error,omitempty"`

	Node       string `json:"node,omitempty"`
	Revision   int64  `json:"revision,omitempty"`
	Keys       int    `json:"keys,omitempty"`
	Waggle     string `json:"waggle,omitempty"`
	Kubernetes string `json:"kubernetes,omitempty"`
	Etcd       string `json:"etcd,omitempty"`
}

// errHeadOnly ends the reading of an archive after its manifest.
var errHeadOnly = errors.New("the manifest is enough")

// List reads all snapshots of a folder, the oldest first, and checks the whole of
// each. A folder that does not exist has none.
func List(dir string) ([]Entry, error) { return list(dir, sink{}) }

// heads is List without the check: it reads manifests alone.
func heads(dir string) ([]Entry, error) {
	return list(dir, sink{start: func(*Manifest) error { return errHeadOnly }})
}

func list(dir string, s sink) ([]Entry, error) {
	found, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	entries := []Entry{}
	for _, d := range found {
		if !strings.HasSuffix(d.Name(), Suffix) || !d.Type().IsRegular() {
			continue
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		entries = append(entries, entry(filepath.Join(dir, d.Name()), info, s))
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return entries, nil
}

func entry(path string, info fs.FileInfo, s sink) Entry {
	e := Entry{Name: info.Name(), Path: path, Size: info.Size(), Time: info.ModTime().UTC().Truncate(time.Second)}
	m, err := readFile(path, s)
	if err != nil && !errors.Is(err, errHeadOnly) {
		e.Error = strings.TrimPrefix(err.Error(), "read snapshot "+path+": ")
	}
	if m != nil {
		e.Time, e.Node, e.Revision, e.Keys = m.Time, m.Node, m.Revision, m.Keys
		e.Waggle, e.Kubernetes, e.Etcd = m.Waggle, m.Kubernetes, m.Etcd
	}
	return e
}

// Render writes snapshots as a table.
func Render(w io.Writer, entries []Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSAVED\tSIZE\tREVISION\tKEYS\tWAGGLE\tKUBERNETES\tETCD\tSTATE")
	for _, e := range entries {
		state := "good"
		if e.Error != "" {
			state = "DAMAGED: " + oneLine(e.Error)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", oneLine(e.Name), e.Time.Format(time.RFC3339), size(e.Size),
			e.Revision, e.Keys, dash(e.Waggle), dash(e.Kubernetes), dash(e.Etcd), state)
	}
	return t.Flush()
}

// oneLine keeps what a file says from looking like lines and columns of ours, or
// from reaching the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return oneLine(s)
}

// size tells bytes in the unit that leaves few digits.
func size(bytes int64) string {
	v, unit := float64(bytes), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
