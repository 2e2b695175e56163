// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/test/lab"
)

// redirectOnly puts a program ahead of waggle's on both pods' devices that sends
// every packet to the other pod and looks at none: what any dataplane pays that
// joins pods by a redirect. The difference to the path "pod" is waggle's own.
func redirectOnly(b *testing.B, h *lab.Host, pods [2]*lab.Pod) (undo func()) {
	b.Helper()
	var links []link.Link
	undo = func() {
		for _, l := range links {
			l.Close()
		}
	}
	s, err := daemonStatus(b.Context(), h)
	if err == nil {
		// Device numbers mean something in the host's namespace alone.
		err = h.DoNet(func() error {
			ends, err := endsOf(s, pods)
			if err != nil {
				return err
			}
			for i := range ends {
				l, err := redirectTo(ends[i].host, ends[1-i])
				if err != nil {
					return err
				}
				links = append(links, l)
			}
			return nil
		})
	}
	if err != nil {
		undo()
		b.Fatal(err)
	}
	return undo
}

// end is a pod's device as the host sees it.
type end struct {
	host   netlink.Link
	podMAC net.HardwareAddr
}

func endsOf(s *status.Status, pods [2]*lab.Pod) (ends [2]end, err error) {
	for i, p := range pods {
		for _, e := range s.Endpoints {
			if e.ContainerID != p.ContainerID {
				continue
			}
			lnk, err1 := netlink.LinkByName(e.HostDevice)
			mac, err2 := net.ParseMAC(e.MAC)
			if err := errors.Join(err1, err2); err != nil {
				return ends, err
			}
			ends[i] = end{lnk, mac}
		}
		if ends[i].host == nil {
			return ends, fmt.Errorf("the daemon has no endpoint of pod %s", p.Name)
		}
	}
	return ends, nil
}

func redirectTo(from netlink.Link, to end) (link.Link, error) {
	index := to.host.Attrs().Index
	macs := append(append([]byte(nil), to.podMAC...), to.host.Attrs().HardwareAddr...)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "redirect_only", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint64(macs)), asm.DWord),
			asm.StoreMem(asm.RFP, -16, asm.R2, asm.DWord),
			asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint32(macs[8:])), asm.DWord),
			asm.StoreMem(asm.RFP, -8, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R2, 0),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, -16),
			asm.Mov.Imm(asm.R4, int32(len(macs))),
			asm.Mov.Imm(asm.R5, 0),
			asm.FnSkbStoreBytes.Call(),
			asm.Mov.Imm(asm.R1, int32(index)),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirectPeer.Call(),
			asm.Return(),
		}})
	if err != nil {
		return nil, fmt.Errorf("load redirect_only: %w", err)
	}
	defer prog.Close()
	return link.AttachTCX(link.TCXOptions{Interface: from.Attrs().Index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
}
