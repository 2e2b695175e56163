// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
	"github.com/waggle-net/waggle/test/lab"
)

// bare is what pods are compared with: two namespaces joined by one veth pair,
// each with an address of each family, and nothing else.
type bare struct {
	netns [2]string
	addrs [2][]netip.Addr // IPv4, IPv6
}

func newBare(b *testing.B, h *lab.Host) *bare {
	b.Helper()
	p := &bare{}
	for i, side := range []string{"a", "b"} {
		p.netns[i] = filepath.Join(h.PodNetNSDir(), "bare-"+side)
		p.addrs[i] = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%d", i+1))}
		namespace(b, p.netns[i])
	}
	err := errors.Join(
		inNetNS(p.netns[0], func() error { return p.join() }),
		inNetNS(p.netns[0], func() error { return p.configure(0) }),
		inNetNS(p.netns[1], func() error { return p.configure(1) }))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// join makes the pair, with the MTU and queues that a pod's device gets.
func (p *bare) join() error {
	peer, err := os.Open(p.netns[1])
	if err != nil {
		return err
	}
	defer peer.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "eth0", 1500
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(peer.Fd()))})
}

// configure gives one side its addresses.
func (p *bare) configure(side int) error {
	lnk, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lnk); err != nil {
		return err
	}
	for _, a := range p.addrs[side] {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		if a.Is6() {
			addr.Mask, addr.Flags = net.CIDRMask(64, 128), unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(lnk, addr); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	return nil
}

// device describes what the two kinds of paths must have in common.
func device(b *testing.B, netns string) string {
	b.Helper()
	var text string
	err := inNetNS(netns, func() error {
		lnk, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		at := lnk.Attrs()
		text = fmt.Sprintf("type %s, mtu %d, queues %d/%d, gso %d/%d, gro %d/%d", lnk.Type(), at.MTU, at.NumTxQueues, at.NumRxQueues,
			at.GSOMaxSize, at.GSOIPv4MaxSize, at.GROMaxSize, at.GROIPv4MaxSize)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// tune gives a namespace enough ports for connections without a pause.
func tune(netns string) error {
	return inNetNS(netns, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("10000 65000"), 0)
	})
}

// namespace makes a network namespace, bound to a file until the benchmark ends.
func namespace(b *testing.B, path string) {
	b.Helper()
	self, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	defer self.Close()
	// The thread leaves its own namespace, and comes back to it.
	err = nl.WithNetNS(self, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, nil, 0o444); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		b.Fatalf("make namespace %s: %v", filepath.Base(path), err)
	}
	b.Cleanup(func() {
		if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)); err != nil {
			b.Errorf("remove namespace %s: %v", filepath.Base(path), err)
		}
	})
}

func inNetNS(path string, fn func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return nl.WithNetNS(f, fn)
}
