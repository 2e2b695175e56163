// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The lengths that an entry may have, in characters.
const (
	maxName = 40
	maxText = 500
)

// entry is what a visitor left.
type entry struct {
	Name string    `json:"name,omitempty"`
	Text string    `json:"text"`
	Time time.Time `json:"time,omitzero"`
	Pod  string    `json:"pod,omitempty"` // the replica that took it
}

// newEntry checks what a visitor sent. Its errors are for the visitor.
func newEntry(name, text string) (entry, error) {
	// Browsers end lines as mail does.
	name, text = strings.TrimSpace(name), strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if err := check("name", name, maxName, ""); err != nil {
		return entry{}, err
	}
	if err := check("text", text, maxText, "\n\t"); err != nil {
		return entry{}, err
	}
	if text == "" {
		return entry{}, invalidError("text is empty: write something")
	}
	return entry{Name: name, Text: text}, nil
}

// check says what is wrong with a text. Of control characters, some are allowed.
func check(what, text string, most int, allowed string) error {
	if !utf8.ValidString(text) {
		return invalidError(what + " is not valid UTF-8: send it in that encoding")
	}
	if n := utf8.RuneCountInString(text); n > most {
		return invalidError(fmt.Sprintf("%s has %d characters: at most %d", what, n, most))
	}
	for _, r := range text {
		if unicode.IsControl(r) && !strings.ContainsRune(allowed, r) {
			return invalidError(fmt.Sprintf("%s has the control character %U: leave it out", what, r))
		}
	}
	return nil
}

// invalidError is the visitor's to repair.
type invalidError string

func (e invalidError) Error() string { return string(e) }
