// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	var got []string
	l := &Lines{Each: func(line string) { got = append(got, line) }}
	for _, c := range []byte("one\r\n\ntwo\nthree") { // serial ports cut lines anywhere
		l.Write([]byte{c})
	}
	l.Close()
	if want := []string{"one", "", "two", "three"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinesAreBounded(t *testing.T) {
	longest := 0
	l := &Lines{Each: func(line string) { longest = max(longest, len(line)) }}
	l.Write([]byte(strings.Repeat("x", 3*maxLine+1)))
	l.Close()
	if longest != maxLine {
		t.Errorf("longest line %d, want %d", longest, maxLine)
	}
}

func TestTail(t *testing.T) {
	var tail Tail
	if got := tail.String(); got != "\nconsole is empty" {
		t.Errorf("the empty tail is %q", got)
	}
	tail.Add("first")
	for range tailLines - 1 {
		tail.Add("again")
	}
	tail.Add("last")
	got := strings.Split(tail.String(), "\n\t")
	if got[0] != "\nconsole, last 60 lines:" || len(got) != 1+tailLines || got[1] != "again" || got[tailLines] != "last" {
		t.Errorf("tail has %d lines, from %q to %q", len(got)-1, got[1], got[len(got)-1])
	}
}
