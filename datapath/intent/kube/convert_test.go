// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/internal/config/strict"
)

// FuzzConvert holds, whatever the objects: no address comes out that the
// datapath must never see, each backend is there once and in order, and neither
// the order of the slices nor a second conversion changes anything.
func FuzzConvert(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if file.Name == "apply" {
				f.Add(string(file.Data))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data string) {
		var services []*service
		var parts []*slice
		for doc := range strings.SplitSeq(data, "---\n") {
			in, err := decodeOne([]byte(doc))
			if err != nil {
				continue
			}
			out, err := convert(in)
			if again, err2 := convert(out); err != nil || err2 != nil || again != out {
				t.Fatalf("converting again gives %v, %v, %v", again, err, err2)
			}
			switch o := out.(type) {
			case *node:
				checkAddresses(t, o.intent.Addresses...)
			case *pod:
				checkAddresses(t, o.intent.Addresses...)
			case *service:
				checkAddresses(t, o.intent.ClusterIPs...)
				services = append(services, o)
			case *slice:
				parts = append(parts, o)
			default:
				t.Fatalf("%T was not converted", out)
			}
		}
		for _, svc := range services {
			checkJoin(t, svc, parts)
		}
		for _, a := range servers(parts) {
			checkAddresses(t, a.Addr())
		}
	})
}

func checkJoin(t *testing.T, svc *service, parts []*slice) {
	joined := join(svc, parts)
	for _, p := range joined.Ports {
		if p.Port == 0 {
			t.Error("a port without a number")
		}
		for i, b := range p.Backends {
			checkAddresses(t, b.Address)
			if i > 0 && compareBackends(p.Backends[i-1], b) >= 0 {
				t.Errorf("backends are not in order, or twice: %v", p.Backends)
			}
		}
	}
	shuffled := slices.Clone(parts)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if again := join(svc, shuffled); !reflect.DeepEqual(joined, again) {
		t.Errorf("in another order of slices, %v is %v", joined, again)
	}
}

func compareBackends(a, b intent.Backend) int {
	return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port))
}

func checkAddresses(t *testing.T, addresses ...netip.Addr) {
	for _, a := range addresses {
		if err := strict.Address(nil, a); err != nil {
			t.Error(err)
		}
	}
}
