// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

const (
	// tick is how soon a moved clock and a changed spec are seen.
	tick = time.Minute
	// checkInterval is how often files are read without such a reason.
	checkInterval = time.Hour
	// repeatInterval is how often a problem is logged again that stays as it is.
	repeatInterval = 24 * time.Hour
	// caWarning is when the end of a CA is near enough to be told: from then on
	// new certificates last less long than they should.
	caWarning = DefaultLifetime
)

// Renew calls Ensure until the context ends: at once, every hour, and within a
// minute after the spec or the clock has changed. After an error it tries again
// every minute. spec is called every minute, and may cost a look at the machine's
// addresses.
//
// Time is compared as wall time. Timers run on the monotonic clock, which neither
// sees the wall clock set nor counts a suspended machine's sleep: what matters to a
// certificate is the calendar.
func Renew(ctx context.Context, spec func() Spec, clk clock.WithTicker, log *slog.Logger) {
	ticker := clk.NewTicker(tick)
	defer ticker.Stop()
	r := renewal{log: log}
	for {
		now := clk.Now().Round(0) // without the monotonic reading
		r.check(spec(), now)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// renewal is what Renew knows between two ticks.
type renewal struct {
	log  *slog.Logger
	spec Spec      // of the last check
	last time.Time // when it was

	problem string    // what the last check failed with
	told    time.Time // when that was logged
	warned  time.Time // when the end of a CA was
}

func (r *renewal) check(spec Spec, now time.Time) {
	if !r.due(spec, now) {
		return
	}
	r.spec, r.last = spec, now
	changes, err := Ensure(spec, now)
	for _, c := range changes {
		attrs := []any{slog.String("file", c.File), slog.String("reason", c.Reason)}
		if !c.Until.IsZero() {
			attrs = append(attrs, slog.Time("until", c.Until))
		}
		r.log.Info("pki file changed", attrs...)
	}
	r.report(err, now)
	r.warn(spec, now)
}

func (r *renewal) due(spec Spec, now time.Time) bool {
	return r.problem != "" || passed(r.last, now, checkInterval) || !reflect.DeepEqual(spec, r.spec)
}

// passed says that the time since then is over, or that the clock was set back.
func passed(then, now time.Time, interval time.Duration) bool {
	d := now.Sub(then)
	return d < 0 || d >= interval
}

// report logs a problem when it is new, and from time to time.
func (r *renewal) report(err error, now time.Time) {
	if err == nil {
		if r.problem != "" {
			r.log.Info("certificates are in order again")
		}
		r.problem = ""
		return
	}
	// Some tell the time, which alone makes no other problem of them.
	problem := strings.ReplaceAll(err.Error(), stamp(now), "now")
	if problem == r.problem && !passed(r.told, now, repeatInterval) {
		return
	}
	r.problem, r.told = problem, now
	r.log.Error("certificates could not be kept in order", slog.Any("error", err))
}

// warn tells once a day that a CA ends.
func (r *renewal) warn(spec Spec, now time.Time) {
	if !passed(r.warned, now, repeatInterval) {
		return
	}
	certs, err := Inspect(spec.Layout.PKIDir())
	if err != nil {
		return // Ensure has said so
	}
	for _, c := range certs {
		if !c.CA || c.NotAfter.Sub(now) > caWarning {
			continue
		}
		r.warned = now
		r.log.Warn("a CA ends, and every certificate with it",
			slog.String("file", c.File), slog.Time("until", c.NotAfter),
			slog.String("remedy", "put a certificate of the same key and the same subject, with a later end, in its place"))
	}
}
