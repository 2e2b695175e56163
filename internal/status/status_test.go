// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var started = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// example has something in every list, out of order.
func example() *Status {
	return &Status{
		Version: "v0.1.0", NodeName: "node1", Started: started, Ready: true,
		Features: []Feature{
			{Name: "tcx", Detail: "programs are attached with clsact"},
			{Name: "sock_destroy", Available: true},
		},
		Programs: []Program{
			{Name: "from_pod", Hook: "from_pod", Attach: "tcx", Target: "wgl7", ID: 1042, Verified: 31337},
			{Name: "connect4", Hook: "connect4", Attach: "cgroup", Target: "/sys/fs/cgroup", ID: 97, Verified: 842},
			{Name: "from_pod", Hook: "from_pod", Attach: "tcx", Target: "wgl12", ID: 1042, Verified: 31337},
		},
		Maps: []Map{
			{Name: "wgl_v4_ct1", Type: "LRUHash", Entries: 131072, MaxEntries: 131072, Bytes: 20 << 20, Flag: "--maps-conntrack"},
			{Name: "wgl_frontends1", Type: "Hash", Entries: 3, MaxEntries: 65536, Bytes: 5 << 20, Flag: "--maps-frontends"},
			{Name: "wgl_counters1", Type: "PerCPUArray", Entries: 64, MaxEntries: 64, Bytes: 900},
		},
		Endpoints: []Endpoint{
			{ID: 12, Pod: "default/web-7d4b9c-xk2lp", ContainerID: "6b0f2d1c9e8a7b6c5d4e3f2a1b0c9d8e", HostDevice: "wgl12",
				Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.12"), netip.MustParseAddr("fd00:10:244:1::c")},
				MAC:       "0a:58:0a:f4:01:0c", Marks: []string{"NAT", "TRACK"}},
			{ID: 7, ContainerID: "abc", HostDevice: "wgl7", Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.7")}, MAC: "0a:58:0a:f4:01:07"},
		},
		Services: []Service{
			{Namespace: "default", Name: "echo", Address: netip.MustParseAddr("fd00:10:96::a"), Port: 80, Protocol: "TCP", Backends: 3, Ready: 2},
			{Namespace: "default", Name: "echo", Address: netip.MustParseAddr("10.96.0.10"), Port: 80, Protocol: "TCP", Backends: 12, Ready: 12},
		},
		Counters: []Counter{
			{Hook: "from_pod", Name: "spoofed", Drop: true, Packets: 4, Bytes: 240},
			{Hook: "from_pod", Name: "ttl", Drop: true},
			{Hook: "from_pod", Name: "delivered", Packets: 1234567, Bytes: 987654321},
		},
	}
}

func TestRender(t *testing.T) {
	ill := &Status{Version: "v0.1.0", NodeName: "node\x1b[2J1", Started: started, Problems: []Problem{
		{Component: "intent", Message: "read intent /etc/waggle/intent.yaml: 2 errors:\n  a: Required value\n  b: Required value", Remedy: "repair the file"},
		{Component: "cni", Message: "write /opt/cni/bin/waggle-cni: read-only file system"},
	}}
	for name, row := range map[string]struct {
		status *Status
		up     time.Duration
	}{
		"healthy":  {example(), 27*time.Hour + 15*time.Minute},
		"problems": {ill, 90 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			row.status.normalize()
			var text, js bytes.Buffer
			if err := Render(&text, row.status, started.Add(row.up)); err != nil {
				t.Fatal(err)
			}
			if err := WriteJSON(&js, row.status); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", text.Bytes())
			golden(t, name+".json", js.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", name, diff)
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 63: "8.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Hour: "0s", 90 * time.Second: "1m30s", 61 * time.Minute: "1h1m", 50 * time.Hour: "2d2h"} {
		if got := uptime(d); got != want {
			t.Errorf("uptime(%s) = %s, want %s", d, got, want)
		}
	}
	for m, want := range map[Map]string{
		{}: "-", {Entries: 1, MaxEntries: 1000}: "<1%", {MaxEntries: 9}: "0%", {Entries: 999, MaxEntries: 1000}: "99%", {Entries: 5, MaxEntries: 5, Type: "Array"}: "-",
	} {
		if got := fill(m); got != want {
			t.Errorf("fill(%+v) = %s, want %s", m, got, want)
		}
	}
}
