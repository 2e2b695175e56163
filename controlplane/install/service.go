// SPDX-License-Identifier: Apache-2.0

package install

import "context"

// StopService has systemd stop the service, if it runs it: a server that is ended
// otherwise is started again. It returns whether it did.
func StopService(ctx context.Context) (bool, error) {
	var s system
	s.setDefaults()
	return s.stopService(ctx)
}

func (s *system) stopService(ctx context.Context) (bool, error) {
	if !s.booted() || s.command(ctx, "systemctl", "is-active", "--quiet", UnitName) != nil {
		return false, nil
	}
	return true, s.command(ctx, "systemctl", "stop", UnitName)
}

// podSlice is systemd's unit of all pods, where it makes their cgroups.
const podSlice = "kubepods.slice"

// stopSlice has systemd forget the pods' slices, whose cgroups it would make again
// at its next reload. It comes after removeCgroups, which refuses to remove those
// that somebody else's pods run in: stopping a slice would end them.
func (s *system) stopSlice(ctx context.Context) error { return s.forget(ctx, podSlice) }

// forgetShutdown has systemd forget the unit that ends the pods at a shutdown. It comes
// after the unit's file is gone and read again: until then it cannot be stopped.
func (s *system) forgetShutdown(ctx context.Context) error { return s.forget(ctx, ShutdownUnitName) }

// forget stops a unit, if there is one.
func (s *system) forget(ctx context.Context, unit string) error {
	if !s.booted() || s.command(ctx, "systemctl", "is-active", "--quiet", unit) != nil {
		return nil
	}
	return s.command(ctx, "systemctl", "stop", unit)
}
