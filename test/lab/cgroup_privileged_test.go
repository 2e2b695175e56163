// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/lab"
)

// TestSocketProgramsSeeOneHost attaches a program that refuses every connect to
// one node's cgroup: commands of that node and its pods meet it, those of another
// node and the test's own sockets do not.
func TestSocketProgramsSeeOneHost(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{2}, BinDir: fakeBin(t)})
	node1, node2 := l.Host("node1"), l.Host("node2")
	pod, err := node1.AddPod(t.Context(), lab.PodOptions{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	refuse, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect,
		License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer refuse.Close()
	attached, err := link.AttachCgroup(link.CgroupOptions{Path: node1.CgroupRoot(), Attach: ebpf.AttachCGroupInet4Connect, Program: refuse})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()

	// A refused connect is EPERM; without a listener it is ECONNREFUSED.
	const connect = `exec 2>&1; : </dev/tcp/127.0.0.1/9`
	type runs interface {
		Run(ctx context.Context, name string, args ...string) (string, error)
	}
	for _, row := range []struct {
		name    string
		inside  runs
		refused bool
	}{
		{"node1", node1, true},
		{"pod on node1", pod, true},
		{"node2", node2, false},
	} {
		out, _ := row.inside.Run(t.Context(), "bash", "-c", connect) // fails either way
		if got := strings.Contains(out, "not permitted"); got != row.refused {
			t.Errorf("%s: refused %v, want %v:\n%s", row.name, got, row.refused, out)
		}
	}
	err = pod.Do(func() error { return dial("127.0.0.1") })
	if !errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, os.ErrPermission) {
		t.Errorf("a socket of the test itself: got %v, want ECONNREFUSED", err)
	}
}
