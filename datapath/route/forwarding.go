// SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// procNet holds the sysctls of the calling thread's network namespace. Names
// are paths below it, since the name of a device may contain dots.
const procNet = "/proc/sys/net"

// syncForwarding turns on forwarding in the families that pods have.
func (m *Manager) syncForwarding(context.Context) error {
	var errs []error
	if slices.ContainsFunc(m.cfg.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		errs = append(errs, m.setSysctl("ipv4/ip_forward", "1"))
	}
	if slices.ContainsFunc(m.cfg.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		errs = append(errs, m.forwardIPv6())
	}
	return errors.Join(errs...)
}

// forwardIPv6 turns on IPv6 forwarding without losing the node's own routes.
//
// A router does not listen to routers: where forwarding is on, the kernel
// ignores router advertisements unless accept_ra is 2, and at the moment of
// turning it on it deletes the default routes that it has from them. So the
// devices that accept advertisements now (accept_ra 1, forwarding 0) get
// accept_ra 2, before. Only those, and only then: with accept_ra 1 on a node
// that forwards already, a device accepts none, and it must stay so, since it
// may be the device of a container that would like to be the default router.
//
// A device that appears afterwards needs accept_ra=2 from whoever configures it.
func (m *Manager) forwardIPv6() error {
	const all = "ipv6/conf/all/forwarding"
	forwarding, err := readSysctl(all)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("turn on IPv6 forwarding: IPv6 is disabled in this kernel (ipv6.disable=1?): %w", err)
	}
	if err != nil {
		return err
	}
	if forwarding != "1" {
		if err := m.keepAdvertisedRoutes(); err != nil {
			return fmt.Errorf("turn on IPv6 forwarding: %w", err)
		}
	}
	return errors.Join(m.setSysctl(all, "1"), m.setSysctl("ipv6/conf/default/forwarding", "1"))
}

// keepAdvertisedRoutes makes devices that accept router advertisements accept
// them with forwarding, too.
func (m *Manager) keepAdvertisedRoutes() error {
	devices, err := os.ReadDir(filepath.Join(procNet, "ipv6/conf"))
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	var errs []error
	for _, d := range devices {
		if name := d.Name(); name != "all" && name != "default" && name != "lo" {
			errs = append(errs, m.keepAdvertisedRoutesOf(name))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) keepAdvertisedRoutesOf(device string) error {
	conf := filepath.Join("ipv6/conf", device)
	forwarding, err1 := readSysctl(filepath.Join(conf, "forwarding"))
	accept, err2 := readSysctl(filepath.Join(conf, "accept_ra"))
	err := errors.Join(err1, err2)
	if err == nil && forwarding == "0" && accept == "1" {
		err = m.setSysctl(filepath.Join(conf, "accept_ra"), "2")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the device has gone meanwhile
	}
	return err
}

// setSysctl writes only what differs: writing may have effects beyond the value.
func (m *Manager) setSysctl(name, value string) error {
	old, err := readSysctl(name)
	if err != nil || old == value {
		return err
	}
	if err := os.WriteFile(filepath.Join(procNet, name), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl net/%s to %s: %w", name, value, err)
	}
	m.log.Info("set sysctl", "name", "net/"+name, "old", old, "new", value)
	return nil
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(procNet, name))
	if err != nil {
		return "", fmt.Errorf("read sysctl net/%s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}
