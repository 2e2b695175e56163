// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

func TestLoadTmp(t *testing.T) {
	rlimit.RemoveMemlock()
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"pod": LoadPod, "socket": LoadSocket} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinNone
		}
		c, err := ebpf.NewCollection(spec)
		if err != nil {
			var ve *ebpf.VerifierError
			if errors.As(err, &ve) {
				t.Fatalf("%s: %+v", name, ve)
			}
			t.Fatal(err)
		}
		for n, p := range c.Programs {
			i, _ := p.Info()
			v, _ := i.VerifiedInstructions()
			t.Log(name, n, v)
		}
		c.Close()
	}
}
