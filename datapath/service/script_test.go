// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	stdmaps "maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/maps"
)

var update = flag.Bool("update", false, "rewrite the expected sections of testdata/*.txtar")

// TestScripts runs testdata/*.txtar: sections are steps, in order.
//
//	maps slots=N backends=N frontends=N   sizes, first of all
//	apply       services in YAML: put in or changed
//	node        the node's addresses, for node ports; all services are put in again
//	delete      names, one a line
//	restart     a new Manager on the maps as they are
//	prune       every service is known now
//	tamper      frontends to delete behind the Manager's back, one a line
//	repair      the drift that was found is compared
//	want        the maps, as text, are compared
//	problems    what the operator is told is compared
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("find scripts: %v, %d files", err, len(files))
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) { runScript(t, f) })
	}
}

func runScript(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript(t)
	for i, f := range ar.Files {
		got, compared := s.step(f)
		if !compared {
			continue
		}
		if *update {
			ar.Files[i].Data = []byte(got)
		} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
			t.Errorf("section %d, %s (-want +got):\n%s", i+1, f.Name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	t         *testing.T
	m         *Manager
	set       *maps.Set
	frontends *maps.Fake[maps.FrontendKey, maps.Frontend]
	graces    int
	applied   map[intent.Name]*intent.Service
}

func newScript(t *testing.T) *script {
	s := &script{t: t, frontends: &maps.Fake[maps.FrontendKey, maps.Frontend]{}, applied: make(map[intent.Name]*intent.Service)}
	s.set = &maps.Set{
		Frontends: s.frontends,
		Slots:     &maps.FakeArray[uint32]{Values: make([]uint32, 64)},
		Backends:  &maps.FakeArray[maps.Backend]{Values: make([]maps.Backend, 32)},
		Grace:     func() error { s.graces++; return nil },
	}
	s.restart()
	return s
}

func (s *script) restart() {
	m, err := NewManager(s.set, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.m = m
}

func (s *script) step(f txtar.File) (got string, compared bool) {
	verb, args, _ := strings.Cut(f.Name, " ")
	switch verb {
	case "maps":
		s.resize(args)
	case "apply":
		s.apply(f.Data)
	case "node":
		var addrs []netip.Addr
		for text := range strings.FieldsSeq(string(f.Data)) {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		s.m.SetNode(addrs)
		s.log(s.m.Apply(stdmaps.Clone(s.applied)))
	case "delete":
		changes := make(map[intent.Name]*intent.Service)
		for line := range strings.FieldsSeq(string(f.Data)) {
			ns, name, _ := strings.Cut(line, "/")
			changes[intent.Name{Namespace: ns, Name: name}] = nil
			delete(s.applied, intent.Name{Namespace: ns, Name: name})
		}
		s.log(s.m.Apply(changes))
	case "restart":
		s.restart()
	case "prune":
		s.log(s.m.Prune())
	case "tamper":
		s.tamper(f.Data)
	case "repair":
		drift, err := s.m.Repair()
		s.log(err)
		return lines(drift), true
	case "want":
		return s.dump(), true
	case "problems":
		return lines(s.m.Problems()), true
	default:
		s.t.Fatalf("unknown section %q", f.Name)
	}
	return "", false
}

// log notes an error: what it means is compared by problems.
func (s *script) log(err error) {
	if err != nil {
		s.t.Log(err)
	}
}

func (s *script) resize(args string) {
	for arg := range strings.FieldsSeq(args) {
		name, value, _ := strings.Cut(arg, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			s.t.Fatal(err)
		}
		switch name {
		case "slots":
			s.set.Slots = &maps.FakeArray[uint32]{Values: make([]uint32, n)}
		case "backends":
			s.set.Backends = &maps.FakeArray[maps.Backend]{Values: make([]maps.Backend, n)}
		case "frontends":
			s.frontends.Max = uint32(n)
		default:
			s.t.Fatalf("unknown map %q", name)
		}
	}
	s.restart()
}

func (s *script) apply(data []byte) {
	var svcs []intent.Service
	if err := yaml.UnmarshalStrict(data, &svcs); err != nil {
		s.t.Fatal(err)
	}
	changes := make(map[intent.Name]*intent.Service)
	for i := range svcs {
		changes[svcs[i].Name] = &svcs[i]
		s.applied[svcs[i].Name] = &svcs[i]
	}
	s.log(s.m.Apply(changes))
}

func (s *script) tamper(data []byte) {
	for line := range strings.FieldsSeq(string(data)) {
		for _, v := range s.m.Views() {
			if v.Address.String() == line {
				if err := s.frontends.Delete(v.Address.frontendKey()); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
}

// dump writes the maps as a program sees them: frontend by frontend, following
// its region to the backends.
func (s *script) dump() string {
	slots, err1 := s.set.Slots.GetAll()
	backends, err2 := s.set.Backends.GetAll()
	if err := errors.Join(err1, err2); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	walk, walkErr := s.set.Frontends.All()
	for k, v := range walk {
		line := fmt.Sprintf("frontend %s slots %d+%d ->", addressOf(k), v.Offset, v.Count)
		for _, id := range slots[v.Offset : v.Offset+v.Count] {
			line += fmt.Sprintf(" %d", id)
		}
		out = append(out, line)
	}
	if err := walkErr(); err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(out)
	for id, b := range backends {
		if b != (maps.Backend{}) {
			out = append(out, fmt.Sprintf("backend %d %s", id, backendAddress(b)))
		}
	}
	if len(out) == 0 {
		return "nothing\n"
	}
	return strings.Join(out, "\n") + "\n"
}

func lines(errs []error) string {
	if len(errs) == 0 {
		return "none\n"
	}
	var out strings.Builder
	for _, err := range errs {
		fmt.Fprintln(&out, err)
	}
	return out.String()
}
