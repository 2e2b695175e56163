// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Render writes a status for people: plain ASCII, problems first. Times are
// told relative to now.
func Render(w io.Writer, s *Status, now time.Time) error {
	var b strings.Builder
	renderHead(&b, s, now)
	renderProblems(&b, s.Problems)
	for _, section := range []struct {
		title string
		table table
	}{
		{"KERNEL FEATURES", featureTable(s.Features)},
		{"PROGRAMS", programTable(s.Programs)},
		{"MAPS", mapTable(s.Maps)},
		{"ENDPOINTS", endpointTable(s.Endpoints)},
		{"SERVICES", serviceTable(s.Services)},
		{"DROPS", counterTable(s.Counters, true)},
		{"COUNTERS", counterTable(s.Counters, false)},
	} {
		fmt.Fprintf(&b, "\n%s\n", section.title)
		section.table.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func renderHead(b *strings.Builder, s *Status, now time.Time) {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY"
	}
	fmt.Fprintf(b, "waggled %s on %s: %s, up %s\n", ascii(s.Version), ascii(s.NodeName), ready, uptime(now.Sub(s.Started)))
}

func renderProblems(b *strings.Builder, problems []Problem) {
	if len(problems) == 0 {
		return
	}
	b.WriteString("\nPROBLEMS\n")
	for _, p := range problems {
		lines := strings.Split(p.Message, "\n")
		fmt.Fprintf(b, "  %s: %s\n", ascii(p.Component), ascii(lines[0]))
		for _, line := range lines[1:] {
			fmt.Fprintf(b, "  %s\n", ascii(line))
		}
		if p.Remedy != "" {
			fmt.Fprintf(b, "    -> %s\n", ascii(p.Remedy))
		}
	}
}

func featureTable(features []Feature) table {
	t := newTable("NAME", "AVAILABLE", "WHAT FOR")
	for _, f := range features {
		available := "yes"
		if !f.Available {
			available = "NO"
		}
		t.add(f.Name, available, f.Detail)
	}
	return t
}

func programTable(programs []Program) table {
	t := newTable("NAME", "HOOK", "ATTACH", "TARGET", ">ID", ">VERIFIED")
	for _, p := range programs {
		t.add(p.Name, p.Hook, p.Attach, p.Target, number(p.ID), number(p.Verified))
	}
	return t
}

func mapTable(maps []Map) table {
	t := newTable("NAME", "TYPE", ">ENTRIES", ">MAX", ">FILL", ">MEMORY", "RAISED BY")
	for _, m := range maps {
		t.add(m.Name, m.Type, number(m.Entries), number(m.MaxEntries), fill(m), size(m.Bytes), m.Flag)
	}
	return t
}

func endpointTable(endpoints []Endpoint) table {
	t := newTable(">ID", "POD", "CONTAINER", "DEVICE", "ADDRESSES", "MAC", "MARKS")
	for _, e := range endpoints {
		addresses := make([]string, len(e.Addresses))
		for i, a := range e.Addresses {
			addresses[i] = a.String()
		}
		// As many digits as the runtimes' own tools show.
		container := e.ContainerID[:min(len(e.ContainerID), 13)]
		t.add(number(e.ID), e.Pod, container, e.HostDevice, strings.Join(addresses, ","), e.MAC, strings.Join(e.Marks, ","))
	}
	return t
}

func serviceTable(services []Service) table {
	t := newTable("NAME", "FRONTEND", "PROTOCOL", ">READY", ">BACKENDS")
	for _, s := range services {
		t.add(s.Namespace+"/"+s.Name, netip.AddrPortFrom(s.Address, s.Port).String(), s.Protocol,
			strconv.Itoa(s.Ready), strconv.Itoa(s.Backends))
	}
	return t
}

// counterTable shows what happened: a counter at zero says nothing.
func counterTable(counters []Counter, drops bool) table {
	t := newTable("HOOK", "NAME", ">PACKETS", ">BYTES")
	for _, c := range counters {
		if c.Drop == drops && c.Packets > 0 {
			t.add(c.Hook, c.Name, number(c.Packets), size(c.Bytes))
		}
	}
	return t
}

func number[T uint32 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

// fill is how much of a map is used. Arrays always hold all of their entries.
func fill(m Map) string {
	if m.MaxEntries == 0 || strings.HasSuffix(strings.ToLower(m.Type), "array") {
		return "-"
	}
	percent := 100 * float64(m.Entries) / float64(m.MaxEntries)
	if percent > 0 && percent < 1 {
		return "<1%"
	}
	return strconv.Itoa(int(percent)) + "%" // rounded down: 100% is full
}

// size is a number of bytes in the largest unit that it has one of.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return number(n) + " B"
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}

// uptime is a duration in its two largest units.
func uptime(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	days, rest := d/(24*time.Hour), d%(24*time.Hour)
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, rest/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return d.String()
}
