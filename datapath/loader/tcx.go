// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachTCX makes the hook's program the first on the device. A pinned link
// that is there, and first, gets the new program in one step. Else a new link
// takes the head and then the old one's pin, so that at no time none is attached.
func (l *Loader) attachTCX(h hook, d device) error {
	pin := l.pin(h, d.name)
	old, err := loadLink(pin)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
		if first, err := isFirst(old, h, d); err == nil && first {
			return old.Update(h.prog)
		}
	}
	lnk, err := l.attachHead(h, d)
	if err != nil {
		return err
	}
	defer lnk.Close()
	return replacePin(lnk, pin)
}

func (l *Loader) attachHead(h hook, d device) (link.Link, error) {
	opts := link.TCXOptions{Interface: d.index, Program: h.prog, Attach: h.attach, Anchor: link.Head()}
	lnk, err := link.AttachTCX(opts)
	if !errors.Is(err, os.ErrExist) {
		return lnk, err
	}
	// This very program is attached, behind somebody else's.
	if opts.Program, err = l.fresh(h); err != nil {
		return nil, err
	}
	defer opts.Program.Close()
	return link.AttachTCX(opts)
}

// isFirst says whether a link is on the device at all, and ahead of all others.
func isFirst(lnk link.Link, h hook, d device) (bool, error) {
	info, err := lnk.Info()
	if err != nil {
		return false, fmt.Errorf("query link: %w", err)
	}
	// The link of a device that is gone says device 0.
	tcx := info.TCX()
	if tcx == nil || int(tcx.Ifindex) != d.index {
		return false, nil
	}
	res, err := link.QueryPrograms(link.QueryOptions{Target: d.index, Attach: h.attach})
	if err != nil {
		return false, err
	}
	if len(res.Programs) == 0 {
		return false, nil
	}
	id, _ := res.Programs[0].LinkID()
	return id == info.ID, nil
}

func (l *Loader) checkTCX(h hook, d device) error {
	lnk, err := loadLink(l.pin(h, d.name))
	if err != nil {
		return err
	}
	if lnk == nil {
		return fmt.Errorf("%w: its pin is gone", ErrNotAttached)
	}
	defer lnk.Close()
	switch first, err := isFirst(lnk, h, d); {
	case err != nil:
		return err
	case !first:
		return fmt.Errorf("%w: another program runs before it, or it was detached", ErrNotAttached)
	}
	return nil
}

// loadLink opens a pinned link; nil where there is none.
func loadLink(pin string) (link.Link, error) {
	lnk, err := link.LoadPinnedLink(pin, &ebpf.LoadPinOptions{})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link: %w", err)
	}
	return lnk, nil
}

// replacePin pins a link under a name that may be taken, in one step.
func replacePin(lnk link.Link, pin string) error {
	tmp := pin + "_new"
	if err := unpin(tmp); err != nil {
		return err
	}
	if err := lnk.Pin(tmp); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	if err := os.Rename(tmp, pin); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return nil
}
