// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"io"
	"log" //nolint:depguard // CoreDNS writes there
	"log/slog"
	"regexp"
)

// line is what CoreDNS and caddy write: perhaps the standard log's date and time, the
// level, perhaps the plugin, and the text.
var line = regexp.MustCompile(`^(?:[\d/]+ )?(?:[\d:.]+ )?\[(DEBUG|INFO|WARNING|ERROR|FATAL|PANIC)\] (?:plugin/(\w+): )?((?s).*)`)

var levels = map[string]slog.Level{
	"DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARNING": slog.LevelWarn,
	"ERROR": slog.LevelError, "FATAL": slog.LevelError, "PANIC": slog.LevelError,
}

// logWriter is the standard log's output while CoreDNS runs.
type logWriter struct {
	to    *slog.Logger
	other io.Writer // gets the lines that are not CoreDNS's
}

// redirectLog puts CoreDNS's lines of the standard log into ours. What it returns
// undoes that.
func redirectLog(to *slog.Logger) func() {
	w := &logWriter{to: to, other: log.Writer()}
	log.SetOutput(w)
	return func() {
		if log.Writer() == io.Writer(w) { // else somebody else put theirs over it
			log.SetOutput(w.other)
		}
	}
}

// Write implements io.Writer: the standard log calls it once a line.
func (w *logWriter) Write(b []byte) (int, error) {
	m := line.FindSubmatch(b)
	if m == nil {
		return w.other.Write(b)
	}
	text := string(m[3])
	for len(text) > 0 && text[len(text)-1] == '\n' {
		text = text[:len(text)-1]
	}
	attrs := []slog.Attr{slog.String("message", text)}
	if len(m[2]) > 0 {
		attrs = append(attrs, slog.String("plugin", string(m[2])))
	}
	w.to.LogAttrs(context.Background(), levels[string(m[1])], "coredns", attrs...)
	return len(b), nil
}
