// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"
)

// TestReceive: values come back as they were sent, whatever bytes they hold.
func TestReceive(t *testing.T) {
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	sent := []*Request{
		{Session: "s", ID: 1, Run: &Command{Args: []string{"cat"}, Stdin: []byte("\x00\xff\r\n\n{"), Env: []string{"A=b\nc"}, Dir: "/tmp"}},
		{Session: "s", ID: 2, Write: &File{Path: "/a b", Data: []byte{0, 255, 10}, Mode: 0o600}},
		{Session: "s", ID: 3, Clock: &at},
		{Session: "s", ID: 1, Cancel: true},
	}
	var port bytes.Buffer
	for _, r := range sent {
		if err := Send(&port, r); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(&port)
	for _, want := range sent {
		got, err := Receive[Request](r)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if got, err := Receive[Request](r); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %+v, %v, want %v", got, err, io.EOF)
	}
}

// FuzzReceive: whatever is left in the port, the next value sent arrives, last
// and whole.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"answer":{"session":"old","id":1,"stdo`))
	f.Add([]byte("\n{}\n{}"))
	f.Fuzz(func(t *testing.T, left []byte) {
		port := bytes.NewBuffer(left)
		want := &Message{Answer: &Answer{Session: "s", ID: 7, Stdout: []byte("out"), Code: 3}}
		if err := Send(port, want); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(port)
		var last *Message
		for {
			m, err := Receive[Message](r)
			if err != nil {
				break
			}
			last = m
		}
		if !reflect.DeepEqual(last, want) {
			t.Fatalf("after %q: got %+v, want %+v", left, last, want)
		}
	})
}
