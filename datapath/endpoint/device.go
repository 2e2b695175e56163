// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
)

func isNotFound(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf) || errors.Is(err, unix.ENODEV)
}

// createVeth makes the pair, both ends down, with the MAC addresses that were
// decided: one that the kernel chose would be changed by udev's MACAddressPolicy.
func createVeth(s *Spec, netns *os.File) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.HostIfName
	attrs.MTU = s.MTU
	attrs.HardwareAddr = net.HardwareAddr(s.HostMAC)
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         s.IfName,
		PeerHardwareAddr: net.HardwareAddr(s.PodMAC),
		PeerNamespace:    netlink.NsFd(int(netns.Fd())),
	})
	if errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("create device %s with %s in the pod: %w: delete it first", s.HostIfName, s.IfName, ErrExists)
	}
	if err != nil {
		return 0, fmt.Errorf("create device %s: %w", s.HostIfName, err)
	}
	return hostIndex(s)
}

// hostIndex finds the host side, and makes sure that it is the one we made.
func hostIndex(s *Spec) (int, error) {
	lnk, err := netlink.LinkByName(s.HostIfName)
	if isNotFound(err) {
		return 0, fmt.Errorf("find device %s: %w", s.HostIfName, ErrGone)
	}
	if err != nil {
		return 0, fmt.Errorf("find device %s: %w", s.HostIfName, err)
	}
	if have := lnk.Attrs().HardwareAddr; !bytes.Equal(have, s.HostMAC) {
		return 0, fmt.Errorf("find device %s: its MAC address is %s, not %s: something changed it", s.HostIfName, have, s.HostMAC)
	}
	return lnk.Attrs().Index, nil
}

func setUp(device string) error {
	lnk, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.LinkSetUp(lnk)
	}
	if err != nil {
		return fmt.Errorf("set device %s up: %w", device, err)
	}
	return nil
}

// configureHost keeps the kernel from talking on the device: it has no address
// of its own there and needs none, and what comes from a pod is no router.
func configureHost(s *Spec) error {
	for _, v := range []struct{ name, value string }{
		{"ipv6/conf/%s/addr_gen_mode", "1"}, // no link-local address, so no MLD either
		{"ipv6/conf/%s/accept_ra", "0"},
		{"ipv4/conf/%s/accept_redirects", "0"},
		{"ipv4/conf/%s/send_redirects", "0"},
	} {
		if err := sysctl(fmt.Sprintf(v.name, s.HostIfName), v.value); err != nil {
			return err
		}
	}
	return nil
}

// sysctl writes a setting of the calling thread's network namespace. One that
// does not exist (a kernel without IPv6) has no effect to lose.
func sysctl(name, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set sysctl net/%s: %w", name, err)
	}
	return nil
}

// configurePod gives the pod side its addresses, and a default route through
// a gateway whose MAC address never has to be asked for.
func configurePod(s *Spec, netns *os.File) error {
	return nl.WithNetNS(netns, func() error {
		lnk, err := netlink.LinkByName(s.IfName)
		if err != nil {
			return err
		}
		if err := setUp("lo"); err != nil {
			return err
		}
		if err := enableIPv6(s); err != nil {
			return err
		}
		for _, a := range s.Addresses {
			addr := &netlink.Addr{IPNet: hostNet(a)}
			if a.Is6() {
				addr.Flags = unix.IFA_F_NODAD // the daemon gives each address once
			}
			if err := netlink.AddrAdd(lnk, addr); err != nil {
				return fmt.Errorf("add address %s: %w", a, err)
			}
		}
		if err := netlink.LinkSetUp(lnk); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
		for _, a := range s.Addresses {
			if err := addGateway(lnk, gateway(a), s.HostMAC); err != nil {
				return err
			}
		}
		return nil
	})
}

// enableIPv6 undoes what container runtimes do to pods without an IPv6 network.
func enableIPv6(s *Spec) error {
	for _, a := range s.Addresses {
		if !a.Is6() {
			continue
		}
		if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
			return fmt.Errorf("add address %s: this kernel has no IPv6: enable it (ipv6.disable=0), or remove the IPv6 range from podCIDRs", a)
		}
		return errors.Join(
			sysctl("ipv6/conf/"+s.IfName+"/disable_ipv6", "0"),
			sysctl("ipv6/conf/lo/disable_ipv6", "0"),
			sysctl("ipv6/conf/"+s.IfName+"/accept_ra", "0"))
	}
	return nil
}

func gateway(a netip.Addr) netip.Addr {
	if a.Is4() {
		return Gateway4
	}
	return Gateway6
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func addGateway(lnk netlink.Link, gw netip.Addr, mac MAC) error {
	index := lnk.Attrs().Index
	neigh := &netlink.Neigh{
		LinkIndex:    index,
		IP:           gw.AsSlice(),
		HardwareAddr: net.HardwareAddr(mac),
		State:        netlink.NUD_PERMANENT,
	}
	if err := netlink.NeighSet(neigh); err != nil {
		return fmt.Errorf("set neighbour %s: %w", gw, err)
	}
	err := netlink.RouteReplace(&netlink.Route{LinkIndex: index, Dst: hostNet(gw), Scope: netlink.SCOPE_LINK})
	if err != nil {
		return fmt.Errorf("add route to %s: %w", gw, err)
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gw.AsSlice()}); err != nil {
		return fmt.Errorf("add default route through %s: %w", gw, err)
	}
	return nil
}
