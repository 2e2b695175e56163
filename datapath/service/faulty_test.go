// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/maps"
)

// TestFaults: writes fail and the daemon restarts at random; whatever happens,
// no frontend ever leads to a backend that its service does not have, and once
// the faults stop everything is as wanted.
func TestFaults(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		s := newScript(t)
		faulty := true
		fail := func() error {
			if faulty && random.IntN(6) == 0 {
				return errors.New("injected")
			}
			return nil
		}
		s.frontends.Fail = fail
		s.set.Slots.(*maps.FakeArray[uint32]).Fail = fail
		s.set.Backends.(*maps.FakeArray[maps.Backend]).Fail = fail

		known := make(map[intent.Name]*intent.Service)
		ever := make(map[Address]map[Address]bool)
		for range 30 {
			name := intent.Name{Name: fmt.Sprint(random.IntN(4))}
			svc := randomService(random, name)
			changes := map[intent.Name]*intent.Service{name: svc}
			switch {
			case random.IntN(4) == 0:
				changes[name] = nil
				delete(known, name)
			default:
				known[name] = svc
				remember(ever, svc)
			}
			_ = s.m.Apply(changes) // fails at random
			if random.IntN(5) == 0 {
				s.restart()
				_ = s.m.Apply(known)
				_ = s.m.Prune()
			}
			checkLeads(t, s, ever)
		}
		faulty = false
		if _, err := s.m.Repair(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s.restart()
		if err := errors.Join(s.m.Apply(known), s.m.Prune()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkWanted(t, seed, s, known)
	}
}

func randomService(random *rand.Rand, name intent.Name) *intent.Service {
	var n byte
	fmt.Sscan(name.Name, &n)
	port := intent.ServicePort{Protocol: intent.TCP, Port: 80}
	for range random.IntN(5) {
		port.Backends = append(port.Backends, intent.Backend{
			Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(6))}), Port: 80, Ready: true,
		})
	}
	return &intent.Service{Name: name, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n})}, Ports: []intent.ServicePort{port}}
}

func remember(ever map[Address]map[Address]bool, svc *intent.Service) {
	fes, _ := Compile(svc, nil)
	for _, fe := range fes {
		if ever[fe.Address] == nil {
			ever[fe.Address] = make(map[Address]bool)
		}
		for _, b := range fe.Backends {
			ever[fe.Address][b] = true
		}
	}
}

// leads reads the maps as a program does.
func leads(s *script) map[Address][]Address {
	slots, _ := s.set.Slots.GetAll()
	backends, _ := s.set.Backends.GetAll()
	out := make(map[Address][]Address)
	walk, _ := s.set.Frontends.All()
	for k, v := range walk {
		list := []Address{}
		for _, id := range slots[v.Offset : v.Offset+v.Count] {
			if backends[id].Flags&maps.BackendReady != 0 {
				list = append(list, backendAddress(backends[id]))
			}
		}
		slices.SortFunc(list, Address.Compare)
		out[addressOf(k)] = list
	}
	return out
}

func checkLeads(t *testing.T, s *script, ever map[Address]map[Address]bool) {
	t.Helper()
	for fe, backends := range leads(s) {
		for _, b := range backends {
			if !ever[fe][b] {
				t.Fatalf("%s leads to %s, which was never its backend", fe, b)
			}
		}
	}
}

func checkWanted(t *testing.T, seed uint64, s *script, known map[intent.Name]*intent.Service) {
	t.Helper()
	have := leads(s)
	want := 0
	for _, svc := range known {
		fes, _ := Compile(svc, nil)
		for _, fe := range fes {
			want++
			if !slices.Equal(have[fe.Address], append([]Address{}, fe.Backends...)) {
				t.Fatalf("seed %d: %s leads to %v, want %v", seed, fe.Address, have[fe.Address], fe.Backends)
			}
		}
	}
	if len(have) != want {
		t.Fatalf("seed %d: %d frontends, want %d: %v", seed, len(have), want, have)
	}
	// Nothing is leaked: numbers in use are those of wanted backends.
	ids := make(map[Address]bool)
	for _, list := range have {
		for _, b := range list {
			ids[b] = true
		}
	}
	if got := len(s.m.numbers.ids); got != len(ids) {
		t.Fatalf("seed %d: %d backends have numbers, %d are used", seed, got, len(ids))
	}
}
