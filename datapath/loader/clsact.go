// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
)

// Our filters on clsact always have this handle and priority: a filter that is
// added with the same ones replaces the old program in one step, and they are
// how a restarted daemon knows its own. Priority 1 comes first.
const (
	filterHandle   = 1
	filterPriority = 1
)

func filterParent(h hook) uint32 {
	if h.attach == ebpf.AttachTCXIngress {
		return netlink.HANDLE_MIN_INGRESS
	}
	return netlink.HANDLE_MIN_EGRESS
}

// attachClsact is what there is before tcx. The queueing discipline may carry
// the filters of others, and is therefore never removed.
func attachClsact(h hook, d device) error {
	qdisc := &netlink.GenericQdisc{
		QdiscType: "clsact",
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: d.index,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
	}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("add clsact: %w", err)
	}
	err := netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: d.index,
			Parent:    filterParent(h),
			Handle:    filterHandle,
			Priority:  filterPriority,
			Protocol:  unix.ETH_P_ALL,
		},
		Fd:           h.prog.FD(),
		Name:         h.program,
		DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("replace filter: %w", err)
	}
	return nil
}

// detachClsact removes our filter, where it is. The queueing discipline stays.
func detachClsact(h hook, d device) error {
	f, _, err := findFilter(h, d)
	if err != nil || f == nil {
		return err
	}
	if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete filter: %w", err)
	}
	return nil
}

// findFilter returns our filter and its place among all; nil if it is not there.
func findFilter(h hook, d device) (netlink.Filter, int, error) {
	lnk, err := netlink.LinkByIndex(d.index)
	if err != nil {
		return nil, 0, fmt.Errorf("find device: %w", err)
	}
	filters, err := nl.FilterList(lnk, filterParent(h))
	if err != nil {
		return nil, 0, err
	}
	for i, f := range filters {
		bf, ok := f.(*netlink.BpfFilter)
		if ok && bf.Name == h.program && bf.Attrs().Handle == filterHandle {
			return f, i, nil
		}
	}
	return nil, 0, nil
}

func checkClsact(h hook, d device) error {
	f, place, err := findFilter(h, d)
	switch {
	case err != nil:
		return err
	case f == nil:
		return fmt.Errorf("%w: no filter of that name", ErrNotAttached)
	case place > 0:
		return fmt.Errorf("%w: another filter runs before it", ErrNotAttached)
	}
	return nil
}
