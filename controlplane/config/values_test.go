// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTexts(t *testing.T) {
	type text interface {
		encoding.TextMarshaler
		encoding.TextUnmarshaler
	}
	for _, row := range []struct {
		value    text
		in, want string // empty for an error
	}{
		{new(Bytes), "0", "0"},
		{new(Bytes), "2147483648", "2Gi"},
		{new(Bytes), "1025", "1025"},
		{new(Bytes), "1536Mi", "1536Mi"},
		{new(Bytes), "8388607Ti", "8388607Ti"},
		{new(Bytes), "8388608Ti", ""},
		{new(Bytes), "9223372036854775808", ""},
		{new(Bytes), "", ""},
		{new(Bytes), "i", ""},
		{new(Bytes), "Gi", ""},
		{new(Bytes), "-1Gi", ""},
		{new(Bytes), "2G", ""},
		{new(Bytes), "2Xi", ""},
		{new(PortRange), "30000-32767", "30000-32767"},
		{new(PortRange), "5-5", "5-5"},
		{new(PortRange), "5", ""},
		{new(PortRange), "5-", ""},
		{new(PortRange), "1-65536", ""},
		{new(PortRange), "1-2-3", ""},
		{new(Taint), "a:NoSchedule", "a:NoSchedule"},
		{new(Taint), "a=:NoSchedule", "a:NoSchedule"},
		{new(Taint), "example.com/a=b:NoExecute", "example.com/a=b:NoExecute"},
		{new(Taint), "a", ""},
		{new(Taint), ":NoSchedule", ""},
		{new(Taint), "a:", ""},
	} {
		err := row.value.UnmarshalText([]byte(row.in))
		got, merr := row.value.MarshalText()
		if merr != nil || (err == nil) != (row.want != "") || err == nil && string(got) != row.want {
			t.Errorf("%T of %q is %q, %v; want %q", row.value, row.in, got, err, row.want)
		}
	}
}

func FuzzBytes(f *testing.F) {
	f.Add("2Gi")
	f.Fuzz(func(t *testing.T, s string) {
		var b, again Bytes
		if b.UnmarshalText([]byte(s)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b || b < 0 {
			t.Errorf("%q is %d, and %s is %d: %v", s, b, b, again, err)
		}
	})
}

func TestFragmentNumbers(t *testing.T) {
	var f Fragment
	if err := json.Unmarshal([]byte(`{"a": [1, 1.5, 1e3, 9007199254740993, 1e300], "b": {"c": -0.0}, "d": "1"}`), &f); err != nil {
		t.Fatal(err)
	}
	want := Fragment{"a": []any{int64(1), 1.5, int64(1000), int64(9007199254740993), 1e300}, "b": map[string]any{"c": int64(0)}, "d": "1"}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"a": 1e999}`), &f); err == nil {
		t.Error("1e999 is a number")
	}
}
