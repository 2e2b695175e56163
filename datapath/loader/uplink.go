// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/waggle-net/waggle/bpf"
	"github.com/waggle-net/waggle/internal/nl"
)

const fromNetwork = "from_network"

// uplinkHooks are on a device that the node is reached by.
func (l *Loader) uplinkHooks() []hook {
	return []hook{{fromNetwork, ebpf.AttachTCXIngress, l.uplink.FromNetwork, bpf.LoadUplink}}
}

// AttachUplink puts the program for packets from outside at the head of a device's
// hook, or replaces it in place.
func (l *Loader) AttachUplink(name string, index int) error {
	return l.attachAll(l.uplinkHooks(), device{name, index}, l.attach)
}

// CheckUplink says, as ErrNotAttached, whether the program is missing or has been
// overtaken by somebody else's.
func (l *Loader) CheckUplink(name string, index int) error {
	return l.checkAll(l.uplinkHooks(), device{name, index})
}

// SweepUplinks takes the program off all devices that keep does not know.
func (l *Loader) SweepUplinks(keep func(name string) bool) error {
	entries, err := os.ReadDir(l.cfg.linkDir())
	if err != nil {
		return fmt.Errorf("sweep pins: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), fromNetwork+"_"); ok && !keep(name) {
			errs = append(errs, unpin(filepath.Join(l.cfg.linkDir(), e.Name())))
		}
	}
	return errors.Join(append(errs, sweepFilters(keep))...)
}

// sweepFilters removes our filters from the devices that keep does not know; nil
// knows none. Only those that are not pods' are looked at, where filters stay.
func sweepFilters(keep func(name string) bool) error {
	links, err := nl.LinkList()
	if err != nil {
		return fmt.Errorf("sweep filters: %w", err)
	}
	h := hook{program: fromNetwork, attach: ebpf.AttachTCXIngress}
	var errs []error
	for _, lnk := range links {
		name := lnk.Attrs().Name
		if keep != nil && keep(name) {
			continue
		}
		if err := detachClsact(h, device{name, lnk.Attrs().Index}); err != nil && !nl.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("sweep filters of %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
