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
)

// hook is one program and where it is attached.
type hook struct {
	program string // as in the object; also the prefix of the pin's name
	attach  ebpf.AttachType
	prog    *ebpf.Program
	object  func() (*ebpf.CollectionSpec, error) // that has the program
}

// podHooks are on the host side of a pod's device.
func (l *Loader) podHooks() []hook {
	return []hook{
		{"from_pod", ebpf.AttachTCXIngress, l.pod.FromPod, bpf.LoadPod},
		{"to_pod", ebpf.AttachTCXEgress, l.pod.ToPod, bpf.LoadPod},
	}
}

// device is a network device of this network namespace.
type device struct {
	name  string
	index int
}

func (l *Loader) pin(h hook, deviceName string) string {
	return filepath.Join(l.cfg.linkDir(), h.program+"_"+deviceName)
}

// AttachNewPod puts the pod programs on a device that has none yet, by the way
// that is quickest. The kernel attaches to tcx only after a grace period for
// each direction, some 12 ms each, with its lock on all network configuration
// held: too long for a pod that waits, and for all that wait behind it. A filter
// on clsact takes none. AttachPod replaces it when there is time.
func (l *Loader) AttachNewPod(name string, index int) error {
	return l.attachAll(l.podHooks(), device{name, index}, attachClsact)
}

// AttachPod puts the pod programs at the head of the device's hooks, to stay
// there. What is attached already is replaced in place: no packet passes without
// a program. (For a moment both ways may run a program; it does to its own work
// nothing a second time.)
func (l *Loader) AttachPod(name string, index int) error {
	return l.attachAll(l.podHooks(), device{name, index}, l.attach)
}

func (l *Loader) attachAll(hooks []hook, d device, attach func(hook, device) error) error {
	for _, h := range hooks {
		if err := attach(h, d); err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.program, d.name, err)
		}
	}
	return nil
}

// Settled says whether a device's programs are attached to stay.
func (l *Loader) Settled(name string, index int) bool {
	if l.mode == TC {
		return true
	}
	for _, h := range l.podHooks() {
		if l.checkTCX(h, device{name, index}) != nil {
			return false
		}
	}
	return true
}

func (l *Loader) attach(h hook, d device) error {
	if l.mode == TCX {
		if err := l.attachTCX(h, d); err != nil {
			return err
		}
		// A daemon that was told tc before has left a filter.
		return detachClsact(h, d)
	}
	if err := attachClsact(h, d); err != nil {
		return err
	}
	// A daemon that was told tcx before has left a link.
	return unpin(l.pin(h, d.name))
}

// DetachPod forgets a device, which may be gone already.
func (l *Loader) DetachPod(name string) error {
	var errs []error
	for _, h := range l.podHooks() {
		errs = append(errs, unpin(l.pin(h, name)))
	}
	return errors.Join(errs...)
}

// CheckPod says, as ErrNotAttached, which program is missing on a device or has
// been overtaken by somebody else's.
func (l *Loader) CheckPod(name string, index int) error {
	return l.checkAll(l.podHooks(), device{name, index})
}

func (l *Loader) checkAll(hooks []hook, d device) error {
	var errs []error
	for _, h := range hooks {
		// A new device has a filter until there is time for a link.
		err := checkClsact(h, d)
		if err != nil && l.mode == TCX {
			err = l.checkTCX(h, d)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s on %s: %w", h.program, d.name, err))
		}
	}
	return errors.Join(errs...)
}

// Sweep removes the pins of devices that keep does not know.
func (l *Loader) Sweep(keep func(name string) bool) error {
	entries, err := os.ReadDir(l.cfg.linkDir())
	if err != nil {
		return fmt.Errorf("sweep pins: %w", err)
	}
	var errs []error
	for _, e := range entries {
		for _, h := range l.podHooks() {
			name, ok := strings.CutPrefix(e.Name(), h.program+"_")
			if ok && !keep(name) {
				errs = append(errs, unpin(filepath.Join(l.cfg.linkDir(), e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// Cleanup takes away everything that is pinned below bpfRoot. Programs attached
// by links go with their pins; those on clsact go with the pods' devices, and are
// taken off those of others.
func Cleanup(bpfRoot string) error {
	errs := []error{sweepFilters(nil)}
	if err := os.RemoveAll(PinDir(bpfRoot)); err != nil {
		errs = append(errs, fmt.Errorf("remove pins: %w", err))
	}
	return errors.Join(errs...)
}

func unpin(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// fresh loads one more copy of a program on the same maps: the kernel does not
// attach one program twice, and a link cannot be moved.
func (l *Loader) fresh(h hook) (*ebpf.Program, error) {
	spec, err := h.object()
	if err != nil {
		return nil, err
	}
	if err := l.sizeMaps(spec); err != nil {
		return nil, err
	}
	for other := range spec.Programs {
		if other != h.program {
			delete(spec.Programs, other)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Maps: ebpf.MapOptions{PinPath: l.cfg.mapDir()},
	})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram(h.program), nil
}
