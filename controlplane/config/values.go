// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// PortRange is a range of ports that is written as 30000-32767.
type PortRange struct{ First, Last int }

// Contains says whether the port is in the range.
func (r PortRange) Contains(port int) bool { return r.First <= port && port <= r.Last }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// MarshalText writes the form that UnmarshalText reads.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads two ports with a dash between them.
func (r *PortRange) UnmarshalText(b []byte) error {
	first, last, ok := strings.Cut(string(b), "-")
	f, ferr := strconv.ParseUint(first, 10, 16)
	l, lerr := strconv.ParseUint(last, 10, 16)
	if !ok || ferr != nil || lerr != nil {
		return errors.New("not a range of ports: write it as 30000-32767")
	}
	*r = PortRange{int(f), int(l)}
	return nil
}

// Bytes is a size that may be written with a binary unit, as in 2Gi.
type Bytes int64

const units = "KMGT" // Ki, Mi, Gi, Ti

// String writes the largest unit that leaves a whole number.
func (b Bytes) String() string {
	n, unit := int64(b), ""
	for i := 0; i < len(units) && n != 0 && n%1024 == 0; i++ {
		n, unit = n/1024, units[i:i+1]+"i"
	}
	return strconv.FormatInt(n, 10) + unit
}

// MarshalText writes the form that UnmarshalText reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a whole number with or without a unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, shift := string(text), 0
	if s, ok := strings.CutSuffix(digits, "i"); ok && s != "" {
		i := strings.IndexByte(units, s[len(s)-1])
		if i < 0 {
			return errBytes
		}
		digits, shift = s[:len(s)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return errBytes
	}
	*b = Bytes(n << shift)
	return nil
}

var errBytes = errors.New("not a size: write it in bytes or with Ki, Mi, Gi or Ti, as in 2Gi")

// Taint keeps pods off a node that do not tolerate it. It is written as
// key=value:Effect, or key:Effect.
type Taint struct{ Key, Value, Effect string }

func (t Taint) String() string {
	if t.Value == "" {
		return t.Key + ":" + t.Effect
	}
	return t.Key + "=" + t.Value + ":" + t.Effect
}

// MarshalText writes the form that UnmarshalText reads.
func (t Taint) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads key=value:Effect.
func (t *Taint) UnmarshalText(b []byte) error {
	what, effect, ok := strings.Cut(string(b), ":")
	if !ok || what == "" || effect == "" {
		return errors.New("not a taint: write it as key=value:NoSchedule or key:NoSchedule")
	}
	key, value, _ := strings.Cut(what, "=")
	*t = Taint{key, value, effect}
	return nil
}

// redacted stands for a secret in what people read.
const redacted = "REDACTED"

// Secret is text that is never printed. Only Reveal and its JSON tell it.
type Secret string

// Reveal is the text.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter for all verbs.
func (s Secret) Format(w fmt.State, _ rune) {
	if s != "" {
		_, _ = io.WriteString(w, redacted) // fmt keeps its errors
	}
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// MarshalText tells the secret: a configuration is written for other processes.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s), nil }

// UnmarshalText takes any text: an error, which quotes what it is about, is thus
// never one about a secret.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

// Fragment is a part of a document of somebody else's. Its values are of the types
// that package strict decodes to.
type Fragment map[string]any

// UnmarshalJSON keeps whole numbers whole, where encoding/json makes floats of them.
func (f *Fragment) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return err
	}
	var err error
	for key, v := range m {
		if m[key], err = plain(v); err != nil {
			return err
		}
	}
	*f = m
	return nil
}

// plain replaces the json.Numbers in v.
func plain(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if i, ierr := v.Int64(); ierr == nil {
			return i, nil
		}
		f, ferr := v.Float64()
		return strict.Number(f), ferr
	case map[string]any:
		for key, item := range v {
			if v[key], err = plain(item); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, item := range v {
			if v[i], err = plain(item); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
