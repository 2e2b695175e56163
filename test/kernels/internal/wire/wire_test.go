// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

func TestParseReport(t *testing.T) {
	for _, tt := range []struct {
		line, rest string
		report     *Report
	}{
		{"ok   TestVeth", "ok   TestVeth", nil},
		{"", "", nil},
		{"waggle-guest: exit 0", "", &Report{}},
		{"waggle-guest: exit 137", "", &Report{ExitCode: 137}},
		{"no newlinewaggle-guest: exit 2", "no newline", &Report{ExitCode: 2}},
		{"waggle-guest: exit ", "waggle-guest: exit ", nil},
		{"waggle-guest: exit -1", "waggle-guest: exit -1", nil},
		{"waggle-guest: exit 256", "waggle-guest: exit 256", nil},
		{"waggle-guest: exit 0 maybe", "waggle-guest: exit 0 maybe", nil},
		{"waggle-guest: failed: load module veth: no such file", "",
			&Report{Failure: "load module veth: no such file"}},
	} {
		rest, report := ParseReport(tt.line)
		if rest != tt.rest {
			t.Errorf("%q: rest %q, want %q", tt.line, rest, tt.rest)
		}
		if (report == nil) != (tt.report == nil) || report != nil && *report != *tt.report {
			t.Errorf("%q: report %+v, want %+v", tt.line, report, tt.report)
		}
	}
}

func TestReportRoundTrip(t *testing.T) {
	for _, want := range []Report{{}, {ExitCode: 1}, {ExitCode: 255}, {Failure: "mount /proc: busy"}} {
		rest, got := ParseReport(want.String())
		if rest != "" || got == nil || *got != want {
			t.Errorf("%q: got %q %+v", want, rest, got)
		}
	}
}

// FuzzParseReport: whatever the guest prints, a report and the text before it
// are both part of the line, and no text is lost when there is no report.
func FuzzParseReport(f *testing.F) {
	f.Add("waggle-guest: exit 0")
	f.Add("xwaggle-guest: failed: waggle-guest: exit ")
	f.Fuzz(func(t *testing.T, line string) {
		rest, report := ParseReport(line)
		if report == nil && rest != line {
			t.Fatalf("%q: lost text, kept %q", line, rest)
		}
		if len(rest) > len(line) || line[:len(rest)] != rest {
			t.Fatalf("%q: %q is not its beginning", line, rest)
		}
	})
}
