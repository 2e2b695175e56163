// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// createNamespaces makes the host's namespaces and binds them to files, so that
// they live without a process holding them.
func (h *Host) createNamespaces() error {
	return onThread(func() error {
		// Taken before the mount namespace is left: a detached copy stays in the
		// peer group of its original, so pod namespaces mounted on one side
		// show on the other.
		podNetNS, err := cloneMount(h.PodNetNSDir(), 0)
		if err != nil {
			return err
		}
		defer podNetNS.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Sethostname([]byte(h.Name)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
		if err := h.setSysctls(); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare mount namespace: %w", err)
		}
		if err := h.buildMounts(podNetNS); err != nil {
			return err
		}
		// Bound last: a namespace that has a file is a finished one.
		return h.bindNamespaces(unix.Gettid())
	})
}

// bindNamespaces binds the namespaces of one of our threads to their files. It
// does so from a thread that is still in the machine's mount namespace.
func (h *Host) bindNamespaces(tid int) error {
	task := fmt.Sprintf("/proc/%d/task/%d/ns", os.Getpid(), tid)
	return onThread(func() error {
		if err := bindNetNS(filepath.Join(task, "net"), h.NetNSPath()); err != nil {
			return err
		}
		if err := bindFile(filepath.Join(task, "uts"), h.utsPath()); err != nil {
			return err
		}
		return bindFile(filepath.Join(task, "mnt"), h.mntPath())
	})
}

func bindFile(source, target string) error {
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("bind namespace: %w", err)
	}
	f.Close()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind namespace to %s: %w", target, err)
	}
	return nil
}

// withNetNSRoot runs fn while no other lab prepares or removes /run/netns. The
// lock is on /run itself: it leaves no file behind.
func withNetNSRoot(fn func() error) error {
	f, err := os.Open(filepath.Dir(netnsRoot))
	if err != nil {
		return fmt.Errorf("lock /run: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock /run: %w", err)
	}
	return fn()
}

// bindNetNS binds a network namespace below /run/netns, prepared the way that
// ip-netns(8) does it: a shared mount of its own. Were it left to iproute2, a later
// `ip netns add` would cover our mounts by a copy of them that is hard to remove.
func bindNetNS(source, target string) error {
	return withNetNSRoot(func() error {
		if err := os.MkdirAll(netnsRoot, 0o755); err != nil {
			return err
		}
		err := unix.Mount("", netnsRoot, "", unix.MS_SHARED|unix.MS_REC, "")
		if errors.Is(err, unix.EINVAL) { // not a mount point yet
			if err := unix.Mount(netnsRoot, netnsRoot, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return fmt.Errorf("bind %s: %w", netnsRoot, err)
			}
			err = unix.Mount("", netnsRoot, "", unix.MS_SHARED|unix.MS_REC, "")
		}
		if err != nil {
			return fmt.Errorf("share %s: %w", netnsRoot, err)
		}
		return bindFile(source, target)
	})
}

// removeNetNSRoot removes an empty /run/netns; iproute2 makes it again when needed.
func removeNetNSRoot() error {
	return withNetNSRoot(func() error {
		entries, err := os.ReadDir(netnsRoot)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || len(entries) > 0 {
			return err
		}
		if err := unix.Unmount(netnsRoot, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", netnsRoot, err)
		}
		// Not an error: it may hold what the mount had covered.
		os.Remove(netnsRoot)
		return nil
	})
}

// setSysctls makes the calling thread's new network namespace behave the same on
// every machine: IPv4 settings of a new namespace are copies of the machine's.
func (h *Host) setSysctls() error {
	forward := "0" // on nodes, forwarding is the daemon's job
	if h.Kind == KindRouter {
		forward = "1"
	}
	settings := []struct{ key, value string }{
		// Duplicate address detection would hold addresses back for a second.
		{"ipv6/conf/all/accept_dad", "0"}, {"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/all/accept_ra", "0"}, {"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/all/disable_ipv6", "0"}, {"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/all/forwarding", forward}, {"ipv6/conf/default/forwarding", forward},
		{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/ip_forward", forward},
		// A client or pod may ping without further rights.
		{"ipv4/ping_group_range", "0 2147483647"},
	}
	for _, s := range settings {
		if err := os.WriteFile("/proc/sys/net/"+s.key, []byte(s.value), 0); err != nil {
			return fmt.Errorf("set sysctl net/%s: %w", s.key, err)
		}
	}
	// These exist if br_netfilter is loaded, and start as 1 in new namespaces.
	for _, key := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte("0"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set sysctl bridge-nf-call-%s: %w", key, err)
		}
	}
	return nil
}
