// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/cni/protocol"
)

// openNetNS opens the pod's network namespace. The caller's own is refused here
// and not after the work, when it would leave an interface behind.
func openNetNS(args *skel.CmdArgs) (*os.File, error) {
	f, err := os.Open(args.Netns)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("open network namespace: %v", err), "check CNI_NETNS")
	}
	override := args.NetnsOverride == "1" || strings.EqualFold(args.NetnsOverride, "true")
	if !override && isOwn(f) {
		f.Close()
		return nil, types.NewError(types.ErrInvalidNetNS,
			fmt.Sprintf("network namespace %s is the one that waggle-cni runs in, not a pod's", args.Netns), "check CNI_NETNS")
	}
	return f, nil
}

func isOwn(f *os.File) bool {
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(own, info)
}

// removeInterface takes the pod's device away without waggled: from the host's
// side, where its name follows from the attachment, and from inside the pod, if
// its namespace is still there and the device is a veth, as ours are. Deleting
// either end deletes both.
func removeInterface(a protocol.Attachment, path string) error {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	if err := removeVeth(host, a.HostIfName()); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil // the namespace went, and the device with it
	}
	defer f.Close()
	if isOwn(f) {
		return nil // the host's own devices are not the pod's
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return nil // a plain file: the namespace is no longer mounted there
	}
	pod, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer pod.Close()
	return removeVeth(pod, a.IfName)
}

func removeVeth(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	var absent netlink.LinkNotFoundError
	switch {
	case errors.As(err, &absent):
		return nil
	case err != nil:
		return fmt.Errorf("look up interface %s: %w", name, err)
	case link.Type() != "veth":
		return nil
	}
	if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}
