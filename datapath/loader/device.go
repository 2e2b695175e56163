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

// hook is one program on the host side of a pod's device.
type hook struct {
	program string // as in the object; also the prefix of the pin's name
	attach  ebpf.AttachType
	prog    *ebpf.Program
}

func (l *Loader) podHooks() []hook {
	return []hook{
		{"from_pod", ebpf.AttachTCXIngress, l.pod.FromPod},
		{"to_pod", ebpf.AttachTCXEgress, l.pod.ToPod},
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

// AttachPod puts the pod programs at the head of the device's hooks. What is
// attached already is replaced in place: no packet passes without a program.
func (l *Loader) AttachPod(name string, index int) error {
	d := device{name, index}
	for _, h := range l.podHooks() {
		if err := l.attach(h, d); err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.program, d.name, err)
		}
	}
	return nil
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
	d := device{name, index}
	var errs []error
	for _, h := range l.podHooks() {
		var err error
		if l.mode == TCX {
			err = l.checkTCX(h, d)
		} else {
			err = checkClsact(h, d)
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
// by links go with their pins; those on clsact go with their devices.
func Cleanup(bpfRoot string) error {
	if err := os.RemoveAll(PinDir(bpfRoot)); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

func unpin(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// fresh loads one more copy of a pod program on the same maps: the kernel does
// not attach one program twice, and a link cannot be moved.
func (l *Loader) fresh(name string) (*ebpf.Program, error) {
	spec, err := bpf.LoadPod()
	if err != nil {
		return nil, err
	}
	if err := l.sizeMaps(spec); err != nil {
		return nil, err
	}
	for other := range spec.Programs {
		if other != name {
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
	return coll.DetachProgram(name), nil
}
