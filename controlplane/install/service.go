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
