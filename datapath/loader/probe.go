// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Feature is something that the kernel has or lacks, found by trying.
type Feature struct {
	Name string
	// Needed features have no replacement.
	Needed    bool
	Available bool
	// Detail says what the feature is for, or what its absence costs.
	Detail string
}

// Probe asks the kernel for every feature that the programs use.
func Probe() []Feature {
	type probe struct {
		name, detail string
		needed       bool
		try          func() error
	}
	helper := func(p ebpf.ProgramType, f asm.BuiltinFunc) func() error {
		return func() error { return features.HaveProgramHelper(p, f) }
	}
	probes := []probe{
		{"cgroup socket hooks", "services at the socket need Linux 5.8 with CONFIG_CGROUP_BPF", true,
			func() error { return features.HaveProgramType(ebpf.CGroupSockAddr) }},
		{"socket storage", "replies carry the service's address: needs Linux 5.8", true,
			helper(ebpf.CGroupSockAddr, asm.FnSkStorageGet)},
		{"refusal with an error", "services without backends refuse at once: needs Linux 6.0", true,
			helper(ebpf.CGroupSockAddr, asm.FnSetRetval)},
		{"peer redirect", "packets skip the host stack: needs Linux 5.10", true,
			helper(ebpf.SchedCLS, asm.FnRedirectPeer)},
		{"MTU check", "oversized packets are answered: needs Linux 5.12", true,
			helper(ebpf.SchedCLS, asm.FnCheckMtu)},
		{"map walk", "a full flow table sweeps itself: needs Linux 5.13", true,
			helper(ebpf.SchedCLS, asm.FnForEachMapElem)},
		{"tcx", "programs stay at the head of their hooks: needs Linux 6.6; before, clsact, where another program may cut in unseen", false,
			haveTCX},
	}
	out := make([]Feature, 0, len(probes))
	for _, p := range probes {
		f := Feature{Name: p.name, Needed: p.needed, Detail: p.detail}
		err := p.try()
		f.Available = err == nil
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			f.Detail = fmt.Sprintf("%s (probe failed: %v)", p.detail, err)
		}
		out = append(out, f)
	}
	return out
}

// Missing returns the needed features that are not there.
func Missing(fs []Feature) []Feature {
	var out []Feature
	for _, f := range fs {
		if f.Needed && !f.Available {
			out = append(out, f)
		}
	}
	return out
}

// haveTCX asks what is attached to the loopback device: an old kernel does not
// know the question. Nothing is attached.
func haveTCX() error {
	const loopback = 1
	_, err := link.QueryPrograms(link.QueryOptions{Target: loopback, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return nil
}

func chooseMode(want Mode) (Mode, error) {
	switch want {
	case TC:
		return TC, nil
	case TCX:
		if err := haveTCX(); err != nil {
			return "", fmt.Errorf("attach: tcx: %w: it needs Linux 6.6: use attach: auto", err)
		}
		return TCX, nil
	case Auto, "":
		if haveTCX() == nil {
			return TCX, nil
		}
		return TC, nil
	default:
		return "", fmt.Errorf("attach: unknown mode %q: use auto, tcx or tc", want)
	}
}
