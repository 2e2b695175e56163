// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const kubeProcess = "waggle-kube"

// KubePrivate are the folders that each host of a lab needs of its own to run
// waggle-kube: what lies on the overlay of /var cannot be below another overlay.
func KubePrivate() []string {
	return []string{"/var/lib/waggle-kube", "/var/log/pods", "/var/log/containers", "/etc/kubernetes"}
}

// KubeCgroup is the cgroup that a host's pods are below, as the kubelet names it: the
// same path in every hierarchy, below CgroupRoot in that of version 2.
func (h *Host) KubeCgroup() string {
	return "/" + filepath.Join(cgroupParent, h.lab.Name, h.Name, "kube")
}

// kubeCgroups are a lab's cgroups in the hierarchies of version 1, whether they exist
// or not. Processes in them are also in those of version 2, where they are found.
func kubeCgroups(name string) ([]string, error) {
	mounts, err := mountsBelow("/sys/fs/cgroup")
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, m := range mounts {
		if m.fsType == "cgroup" {
			roots = append(roots, filepath.Join(m.point, cgroupParent, name))
		}
	}
	return roots, nil
}

// makeKubeCgroup makes the host's cgroup of pods in every hierarchy. Those of version
// 1 that limit processors and memory nodes start empty, and those of version 2 without
// controllers: both are handed down from the root.
func (h *Host) makeKubeCgroup() error {
	roots, err := kubeCgroups(h.lab.Name)
	if err != nil {
		return err
	}
	suffix := filepath.Join(cgroupParent, h.lab.Name)
	mounts := []string{strings.TrimSuffix(labCgroup(h.lab.Name), suffix)}
	for _, root := range roots {
		mounts = append(mounts, strings.TrimSuffix(root, suffix))
	}
	for _, mount := range mounts {
		dir := mount
		for step := range strings.SplitSeq(strings.TrimPrefix(h.KubeCgroup(), "/"), "/") {
			dir = filepath.Join(dir, step)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("make pods' cgroup: %w", err)
			}
			if err := inheritCgroup(dir); err != nil {
				return fmt.Errorf("make pods' cgroup: %w", err)
			}
		}
	}
	return nil
}

// inheritCgroup gives a cgroup what its parent has: cpusets (v1), controllers (v2).
func inheritCgroup(dir string) error {
	parent := filepath.Dir(dir)
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if isCgroup2(dir) {
			break
		}
		value, err := os.ReadFile(filepath.Join(parent, name))
		if errors.Is(err, os.ErrNotExist) {
			break // not the hierarchy of that controller
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o644); err != nil {
			return err
		}
	}
	if !isCgroup2(dir) {
		return nil
	}
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for c := range strings.FieldsSeq(string(controllers)) {
		err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+c), 0o644)
		if err != nil && !errors.Is(err, unix.ENOTSUP) { // one that this root cannot hand down
			return err
		}
	}
	return nil
}

// removeKubeCgroups removes a lab's cgroups in the hierarchies of version 1, when its
// processes are gone.
func removeKubeCgroups(ctx context.Context, name string) error {
	roots, err := kubeCgroups(name)
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := (&members{cgroup: root}).removeCgroups(ctx); err != nil {
			return err
		}
	}
	return nil
}

// KubeConfig renders the configuration of waggle-kube on this host. Lines of extra
// are appended as they are.
func (h *Host) KubeConfig(extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: waggle.dev/v1alpha1\nkind: ServerConfig\n")
	fmt.Fprintf(&b, "nodeName: %s\n", h.Name)
	fmt.Fprintf(&b, "nodeIPs: %s\n", flowList(h.Addrs()))
	fmt.Fprintf(&b, "podCIDRs: %s\n", flowList(ClusterCIDRs()))
	fmt.Fprintf(&b, "kubelet:\n  cgroupRoot: %s\n", h.KubeCgroup())
	for _, line := range extra {
		fmt.Fprintln(&b, strings.TrimRight(line, "\n"))
	}
	return b.String()
}

// StartKube configures waggle-kube and starts its server on this host. It does not
// wait until the node is ready. The host needs the folders of KubePrivate.
func (h *Host) StartKube(ctx context.Context, extraConfig ...string) (*Process, error) {
	fail := func(err error) (*Process, error) { return nil, h.wrap("start waggle-kube", err) }
	program := filepath.Join(h.lab.BinDir, "waggle-kube")
	if _, err := os.Stat(program); err != nil {
		return fail(fmt.Errorf("find %s: %w", program, ErrNoBinary))
	}
	if err := h.makeKubeCgroup(); err != nil {
		return fail(err)
	}
	config := filepath.Join(h.Dir(), "etc/kube.yaml")
	if err := writeFileAtomic(config, []byte(h.KubeConfig(extraConfig...)), 0o600); err != nil {
		return fail(err)
	}
	return h.Start(ctx, kubeProcess, program, "server")
}
