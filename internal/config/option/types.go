// SPDX-License-Identifier: Apache-2.0

package option

import (
	"errors"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

var errDuration = errors.New("not a duration: write it as 30s, 5m or 1h30m")

// Duration is a span of time that is written as text, as in 1m30s.
type Duration struct{ time.Duration }

// MarshalText writes the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errDuration
	}
	d.Duration = v
	return nil
}

// LogLevel is the least severe level that is logged: debug, info, warn or error.
type LogLevel string

var logLevels = map[LogLevel]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// Level implements slog.Leveler.
func (l LogLevel) Level() slog.Level { return logLevels[l] }

// Validate checks that the level is one.
func (l LogLevel) Validate(p *field.Path) field.ErrorList {
	if _, ok := logLevels[l]; ok {
		return nil
	}
	return field.ErrorList{field.NotSupported(p, l, []LogLevel{"debug", "info", "warn", "error"})}
}
