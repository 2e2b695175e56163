// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// overlays are the machine's folders that a host sees through an overlay: it may
// write there, and mount points may be made there, without a trace outside.
var overlays = []string{"/etc", "/opt", "/var"}

// hostFolders are the folders below Host.Dir.
var hostFolders = []string{"run", "var", "etc", "cni/net.d", "cni/cache", "netns", "log", "bpf",
	"pods", "processes", "private", "overlay"}

// binds maps what the host sees to the folder below Host.Dir that it is.
var binds = []struct{ inside, folder string }{
	{"/run/waggle", "run"},
	{"/var/lib/waggle", "var"},
	{"/etc/waggle", "etc"},
	{"/etc/cni/net.d", "cni/net.d"},
}

// buildMounts turns the calling thread's mount namespace, a fresh copy of the
// machine's, into the host's.
func (h *Host) buildMounts(podNetNS *os.File) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"overlay /etc, /opt and /var", h.mountOverlays},
		{"mount /run", func() error { return h.mountRun(podNetNS) }},
		{"bind the host's folders", h.mountBinds},
		{"mount /sys", h.mountSys},
		{"protect /proc/sys", protectProcSys},
		{"lend the kubelet's sysctls", h.lendTunables},
		{"write /etc/hosts", h.writeEtc},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (h *Host) mountOverlays() error {
	for _, lower := range overlays {
		if err := os.MkdirAll(lower, 0o755); err != nil {
			return err
		}
		base := filepath.Join(h.Dir(), "overlay", lower)
		upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
		if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
		if err := unix.Mount("overlay", lower, "overlay", 0, options); err != nil {
			return fmt.Errorf("%s: %w (modprobe overlay?)", lower, err)
		}
	}
	return nil
}

// mountRun gives the host an empty /run with its own folder in it. Everything
// that the machine has mounted below /run is dropped first: a hidden copy would
// keep other hosts' and other labs' namespaces and BPF objects alive, at least
// until the folders under it are removed.
func (h *Host) mountRun(podNetNS *os.File) error {
	own, err := cloneMount(h.Dir(), 0)
	if err != nil {
		return err
	}
	defer own.Close()
	bpf, err := cloneMount(h.BPFRoot(), 0)
	if err != nil {
		return err
	}
	defer bpf.Close()
	mounts, err := mountsBelow("/run")
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if m.point == "/run" {
			continue
		}
		err := unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		// Gone: another lab was taken down this moment, mount points included.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", m.point, err)
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{h.Dir(), "/run/netns", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(attach(own, h.Dir()), attach(bpf, h.BPFRoot()), attach(podNetNS, h.PodNetNSDir())); err != nil {
		return err
	}
	return bind(h.PodNetNSDir(), "/run/netns")
}

func (h *Host) mountBinds() error {
	for _, b := range binds {
		if err := bind(filepath.Join(h.Dir(), b.folder), b.inside); err != nil {
			return err
		}
	}
	for _, path := range h.lab.Private {
		source := filepath.Join(h.Dir(), "private", path)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return err
		}
		if err := bind(source, path); err != nil {
			return err
		}
	}
	if h.lab.BinDir == "" {
		return nil
	}
	// A link and not a bind mount: it survives that bin/ is removed and built anew.
	if err := os.MkdirAll("/opt/cni", 0o755); err != nil {
		return err
	}
	err := os.Symlink(h.lab.BinDir, "/opt/cni/bin")
	if errors.Is(err, fs.ErrExist) { // the machine has plugins of its own
		return bind(h.lab.BinDir, "/opt/cni/bin")
	}
	return err
}

// mountSys mounts a sysfs that shows the host's devices, with the mounts that
// the machine has below /sys, but with the host's own bpffs.
func (h *Host) mountSys() error {
	mounts, err := mountsBelow("/sys")
	if err != nil {
		return err
	}
	tops := topMounts(mounts, "/sys")
	clones := make([]*os.File, len(tops))
	for i, point := range tops {
		if clones[i], err = cloneMount(point, unix.AT_RECURSIVE); err != nil {
			return err
		}
		defer clones[i].Close()
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for i, point := range tops {
		if point == "/sys/fs/bpf" {
			continue
		}
		if err := attach(clones[i], point); err != nil {
			return err
		}
	}
	return bind(h.BPFRoot(), "/sys/fs/bpf")
}

// topMounts returns the mount points below dir that are not below another one.
func topMounts(mounts []mountEntry, dir string) []string {
	var tops []string
	for _, m := range mounts {
		covered := slices.ContainsFunc(tops, func(top string) bool { return within(m.point, top) })
		if m.point != dir && !covered {
			tops = append(tops, m.point)
		}
	}
	return tops
}

// protectProcSys makes all sysctls but the network namespace's own read-only: what
// runs in a host cannot change the machine's.
func protectProcSys() error {
	network, err := cloneMount("/proc/sys/net", 0)
	if err != nil {
		return err
	}
	defer network.Close()
	if err := bind("/proc/sys", "/proc/sys"); err != nil {
		return err
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY)
	if err := unix.Mount("", "/proc/sys", "", flags, ""); err != nil {
		return err
	}
	return attach(network, "/proc/sys/net")
}

func (h *Host) writeEtc() error {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, other := range h.lab.Hosts() {
		fmt.Fprintf(&hosts, "%s %s\n%s %s\n", other.IPv4, other.Name, other.IPv6, other.Name)
	}
	for _, f := range []struct{ path, text string }{
		{"/etc/hosts", hosts.String()},
		{"/etc/hostname", h.Name + "\n"},
	} {
		if err := writeFileAtomic(f.path, []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cloneMount returns a detached copy of what is mounted at path, to be attached
// elsewhere or after path was covered.
func cloneMount(path string, flags uint) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, fmt.Errorf("copy mount %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func attach(tree *os.File, path string) error {
	err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("attach mount to %s: %w", path, err)
	}
	return nil
}

// bind shows source at target too, making target if it is missing.
func bind(source, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}
