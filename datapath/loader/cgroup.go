// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/waggle-net/waggle/bpf"
)

func (l *Loader) socketHooks() []hook {
	return []hook{
		{"connect4", ebpf.AttachCGroupInet4Connect, l.socket.Connect4, bpf.LoadSocket},
		{"connect6", ebpf.AttachCGroupInet6Connect, l.socket.Connect6, bpf.LoadSocket},
		{"sendmsg4", ebpf.AttachCGroupUDP4Sendmsg, l.socket.Sendmsg4, bpf.LoadSocket},
		{"sendmsg6", ebpf.AttachCGroupUDP6Sendmsg, l.socket.Sendmsg6, bpf.LoadSocket},
		{"recvmsg4", ebpf.AttachCGroupUDP4Recvmsg, l.socket.Recvmsg4, bpf.LoadSocket},
		{"recvmsg6", ebpf.AttachCGroupUDP6Recvmsg, l.socket.Recvmsg6, bpf.LoadSocket},
		{"getpeername4", ebpf.AttachCgroupInet4GetPeername, l.socket.Getpeername4, bpf.LoadSocket},
		{"getpeername6", ebpf.AttachCgroupInet6GetPeername, l.socket.Getpeername6, bpf.LoadSocket},
	}
}

// AttachSockets attaches the socket programs to the cgroup, or replaces those
// that are attached, in place. Replies first: no socket may be led to a backend
// whose replies it would not recognise.
func (l *Loader) AttachSockets() error {
	id, err := cgroupID(l.cfg.CgroupRoot)
	if err != nil {
		return err
	}
	hooks := l.socketHooks()
	for _, hook := range slices.Backward(hooks) {
		if err := l.attachCgroup(hook, id); err != nil {
			return fmt.Errorf("attach %s to cgroup %s: %w", hook.program, l.cfg.CgroupRoot, err)
		}
	}
	return nil
}

func (l *Loader) attachCgroup(h hook, cgroup uint64) error {
	pin := filepath.Join(l.cfg.linkDir(), h.program)
	old, err := loadLink(pin)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
		if onCgroup(old, cgroup) {
			return old.Update(h.prog)
		}
	}
	lnk, err := link.AttachCgroup(link.CgroupOptions{Path: l.cfg.CgroupRoot, Attach: h.attach, Program: h.prog})
	if err != nil {
		return err
	}
	defer lnk.Close()
	return replacePin(lnk, pin)
}

// CheckSockets says, as ErrNotAttached, which socket program is not in place.
func (l *Loader) CheckSockets() error {
	id, err := cgroupID(l.cfg.CgroupRoot)
	if err != nil {
		return err
	}
	for _, h := range l.socketHooks() {
		lnk, err := loadLink(filepath.Join(l.cfg.linkDir(), h.program))
		if err != nil {
			return err
		}
		ok := lnk != nil && onCgroup(lnk, id)
		if lnk != nil {
			lnk.Close()
		}
		if !ok {
			return fmt.Errorf("%s on cgroup %s: %w", h.program, l.cfg.CgroupRoot, ErrNotAttached)
		}
	}
	return nil
}

// onCgroup is false for the link of a cgroup that was removed or is another one.
func onCgroup(lnk link.Link, id uint64) bool {
	info, err := lnk.Info()
	if err != nil {
		return false
	}
	cg := info.Cgroup()
	return cg != nil && cg.CgroupId == id
}

// cgroupID is the number by which the kernel knows a cgroup v2 folder: its inode.
func cgroupID(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("find cgroup: %w", err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}
