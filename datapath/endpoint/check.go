// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/waggle-net/waggle/internal/nl"
)

// checkPod says what of the pod side is not as it was built.
func checkPod(s *Spec, netns *os.File) error {
	return nl.WithNetNS(netns, func() error {
		lnk, err := netlink.LinkByName(s.IfName)
		if isNotFound(err) {
			return fmt.Errorf("find %s in pod: %w", s.IfName, ErrGone)
		}
		if err != nil {
			return fmt.Errorf("find %s in pod: %w", s.IfName, err)
		}
		var errs []error
		if a := lnk.Attrs(); !bytes.Equal(a.HardwareAddr, s.PodMAC) {
			errs = append(errs, fmt.Errorf("%s has MAC address %s, not %s", s.IfName, a.HardwareAddr, s.PodMAC))
		}
		if a := lnk.Attrs(); a.Flags&net.FlagUp == 0 {
			errs = append(errs, fmt.Errorf("%s is down", s.IfName))
		}
		return errors.Join(append(errs, checkAddresses(lnk, s.Addresses), checkGateways(lnk, s))...)
	})
}

func checkAddresses(lnk netlink.Link, want []netip.Addr) error {
	have := make(map[netip.Addr]bool)
	addrs, err := nl.AddrList(lnk, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			have[ip.Unmap()] = true
		}
	}
	var errs []error
	for _, a := range want {
		if !have[a] {
			errs = append(errs, fmt.Errorf("%s lacks address %s", lnk.Attrs().Name, a))
		}
	}
	return errors.Join(errs...)
}

func checkGateways(lnk netlink.Link, s *Spec) error {
	var errs []error
	for _, a := range s.Addresses {
		gw := gateway(a)
		filter := &netlink.Route{LinkIndex: lnk.Attrs().Index, Gw: gw.AsSlice()}
		family := netlink.FAMILY_V4
		if a.Is6() {
			family = netlink.FAMILY_V6
		}
		routes, err := nl.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_GW)
		if err != nil {
			errs = append(errs, err)
		} else if len(routes) == 0 {
			errs = append(errs, fmt.Errorf("no route through %s", gw))
		}
	}
	return errors.Join(errs...)
}
