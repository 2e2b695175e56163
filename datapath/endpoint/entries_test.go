// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/datapath/maps"
)

var update = flag.Bool("update", false, "rewrite the expected sections of testdata/*.txtar")

// TestEntries runs testdata/*.txtar: endpoints in, map entries out.
func TestEntries(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("find scripts: %v, %d files", err, len(files))
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) { runEntries(t, f) })
	}
}

func runEntries(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var specs []Spec
	for i, f := range ar.Files {
		switch f.Name {
		case "endpoints":
			if err := yaml.UnmarshalStrict(f.Data, &specs); err != nil {
				t.Fatal(err)
			}
		case "want":
			got := dump(specs)
			if *update {
				ar.Files[i].Data = []byte(got)
			} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		default:
			t.Fatalf("unknown section %q", f.Name)
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func dump(specs []Spec) string {
	var out []string
	for i := range specs {
		for a, ep := range entries(&specs[i], 100+i) {
			out = append(out, fmt.Sprintf("%s dev %d endpoint %d pod-mac %s host-mac %s mtu %d\n",
				maps.AddrTo(a), ep.Ifindex, ep.Id, MAC(ep.PodMac[:]), MAC(ep.HostMac[:]), ep.Mtu))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// fakes is a Manager on maps in memory.
func fakes() (*Manager, *maps.Set) {
	set := &maps.Set{
		Endpoints: &maps.Fake[maps.Addr, maps.Endpoint]{},
		Marks:     &maps.FakeArray[uint32]{Values: make([]uint32, MaxID+1)},
	}
	set.PurgeFlows = func(id uint32) error { purged = append(purged, id); return nil }
	return New(nil, nil, set, slog.New(slog.DiscardHandler)), set
}

// purged are the endpoints whose flows were purged.
var purged []uint32

var example = Spec{
	ID: 7, HostIfName: "wag7", MTU: 1500,
	Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:10:244:1::7")},
	PodMAC:    MAC{2, 0, 0, 0, 0, 7}, HostMAC: MAC{2, 0, 0, 0, 1, 7},
}

// An endpoint's flows and marks go with it, and nobody else's.
func TestClearMaps(t *testing.T) {
	m, set := fakes()
	err := errors.Join(
		m.writeMaps(&example, 100),
		set.Marks.Set(7, maps.MarkNAT), set.Marks.Set(8, maps.MarkNAT),
		m.checkMaps(&example, 100),
		m.clearMaps(&example),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.checkMaps(&example, 100); err == nil {
		t.Error("the check passes without entries")
	}
	if !slices.Equal(purged, []uint32{7}) {
		t.Errorf("flows of endpoints %v were purged, want those of 7", purged)
	}
	for id, want := range map[uint32]uint32{7: 0, 8: maps.MarkNAT} {
		if got, _ := set.Marks.Get(id); got != want {
			t.Errorf("marks of endpoint %d are %d, want %d", id, got, want)
		}
	}
}

// The check names what differs.
func TestCheckMaps(t *testing.T) {
	m, set := fakes()
	if err := m.writeMaps(&example, 100); err != nil {
		t.Fatal(err)
	}
	if err := set.Endpoints.Delete(maps.AddrFrom(example.Addresses[1])); err != nil {
		t.Fatal(err)
	}
	err := m.checkMaps(&example, 101)
	for _, want := range []string{"lacks fd00:10:244:1::7", "another entry for 10.244.1.7"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the check says %v, want %q in it", err, want)
		}
	}
}
