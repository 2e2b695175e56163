// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

func valid() Request {
	return Request{
		Version: 1, Verb: Add, Network: "waggle", NetNS: "/run/netns/x",
		Attachment: Attachment{ContainerID: "c1", IfName: "eth0"},
		Pod:        Pod{Namespace: "default", Name: "web", UID: "1"},
	}
}

func TestRequestTravels(t *testing.T) {
	want := valid()
	line, err := EncodeRequest(&want)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.IndexByte(line, '\n') != len(line)-1 {
		t.Errorf("not one line: %q", line)
	}
	got, err := DecodeRequest(line)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	// What is on the wire is what a plugin of another release reads.
	const wire = `{"version":1,"verb":"ADD","network":"waggle","containerID":"c1","ifName":"eth0",` +
		`"netns":"/run/netns/x","pod":{"namespace":"default","name":"web","uid":"1"}}` + "\n"
	if string(line) != wire {
		t.Errorf("wire format\n%s, want\n%s", line, wire)
	}
}

func TestBadRequests(t *testing.T) {
	change := func(fn func(*Request)) string {
		r := valid()
		fn(&r)
		line, err := EncodeRequest(&r)
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	for _, tc := range []struct {
		name, line string
		code       uint
		msg        string
	}{
		{"empty", "", types.ErrDecodingFailure, "unexpected end"},
		{"not JSON", "GET / HTTP/1.1", types.ErrDecodingFailure, "invalid character"},
		{"wrong type", `{"version":"one"}`, types.ErrDecodingFailure, "version"},
		{"two values", `{"version":1}{}`, types.ErrDecodingFailure, "after top-level value"},
		{"oversized", strings.Repeat(" ", MaxMessage+1), types.ErrDecodingFailure, "at most"},
		{"no version", change(func(r *Request) { r.Version = 0 }), types.ErrDecodingFailure, "version 0"},
		{"newer version", change(func(r *Request) { r.Version = 2 }), CodeProtocol, "speaks 1"},
		{"unknown verb", change(func(r *Request) { r.Verb = "MOVE" }), types.ErrDecodingFailure, `unknown verb "MOVE"`},
		{"no network", change(func(r *Request) { r.Network = "" }), types.ErrInvalidNetworkConfig, "network name"},
		{"no container", change(func(r *Request) { r.ContainerID = "" }), types.ErrUnknownContainer, "containerID"},
		{"slash in container", change(func(r *Request) { r.ContainerID = "a/b" }), types.ErrInvalidEnvironmentVariables, "containerID"},
		{"long container", change(func(r *Request) { r.ContainerID = strings.Repeat("a", 257) }), types.ErrInvalidEnvironmentVariables, "at most 256"},
		{"long interface", change(func(r *Request) { r.IfName = "0123456789abcdef" }), types.ErrInvalidEnvironmentVariables, "too long"},
		{"GC with half an attachment", change(func(r *Request) {
			r.Verb, r.Valid = GC, []Attachment{{ContainerID: "x"}}
		}), types.ErrDecodingFailure, "valid attachment"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeRequest([]byte(tc.line))
			var e *types.Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Msg, tc.msg) {
				t.Errorf("error %#v, want code %d and %q", err, tc.code, tc.msg)
			}
		})
	}
}

func TestEncodeRefusesWhatCannotBeRead(t *testing.T) {
	r := valid()
	r.Pod.Name = strings.Repeat("x", MaxMessage)
	if _, err := EncodeRequest(&r); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("error %v", err)
	}
}

func TestHostIfName(t *testing.T) {
	// Fixed for ever: a plugin of one release deletes what a daemon of another made.
	a := Attachment{ContainerID: "c1", IfName: "eth0"}
	if got := a.HostIfName(); got != "wagd72e032fedd9" || len(got) > 15 {
		t.Errorf("host interface %q", got)
	}
}

// Either an error fit for the wire, or a request that is complete.
func FuzzDecodeRequest(f *testing.F) {
	r := valid()
	line, _ := EncodeRequest(&r)
	f.Add(line)
	f.Add([]byte(`{"version":1,"verb":"GC","network":"n","valid":[{"containerID":"a","ifName":"b"}]}`))
	f.Add([]byte(`{"version":1,"verb":"CHECK","prevResult":{"ips":[{"address":"10.0.0.1/32"}]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := DecodeRequest(line)
		var e *types.Error
		switch {
		case err != nil && !errors.As(err, &e):
			t.Fatalf("error of type %T", err)
		case err != nil && (r != nil || e.Code == 0 || e.Msg == ""):
			t.Fatalf("request %v and error %#v", r, e)
		case err == nil && (r.Network == "" || r.Version != Version):
			t.Fatalf("incomplete request %+v", r)
		}
		if err != nil {
			return
		}
		again, err := EncodeRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRequest(again); err != nil {
			t.Fatalf("decoded once and not twice: %v", err)
		}
	})
}
