// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// KubeProcess is the name of the process that StartKube starts: the supervisor.
const KubeProcess = "waggle-kube"

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
// are appended as they are; one that begins with "dataplane:" is in place of ours.
func (h *Host) KubeConfig(extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: waggle.dev/v1alpha1\nkind: ServerConfig\n")
	fmt.Fprintf(&b, "nodeName: %s\n", h.Name)
	fmt.Fprintf(&b, "nodeIPs: %s\n", flowList(h.Addrs()))
	fmt.Fprintf(&b, "podCIDRs: %s\n", flowList(ClusterCIDRs()))
	fmt.Fprintf(&b, "kubelet:\n  cgroupRoot: %s\n", h.KubeCgroup())
	if !slices.ContainsFunc(extra, func(line string) bool { return strings.HasPrefix(line, "dataplane:") }) {
		fmt.Fprintf(&b, "dataplane:\n  config:\n    bpfRoot: %s\n    cgroupRoot: %s\n", h.BPFRoot(), h.CgroupRoot())
	}
	for _, line := range extra {
		fmt.Fprintln(&b, strings.TrimRight(line, "\n"))
	}
	return b.String()
}

// KubeOptions are for RunKube. The zero value is a server without a way out.
type KubeOptions struct {
	// Config holds further lines of the configuration.
	Config []string
	// Proxy is the URL by which images are pulled, and NoProxy whom to ask without it.
	Proxy   string
	NoProxy []string
}

// PrepareKube writes the configuration of waggle-kube, and makes the cgroup of its
// pods. It says whether the configuration differs from what was there.
func (h *Host) PrepareKube(o KubeOptions) (changed bool, err error) {
	program := filepath.Join(h.lab.BinDir, "waggle-kube")
	if _, err := os.Stat(program); err != nil {
		return false, h.wrap("configure waggle-kube", fmt.Errorf("find %s: %w", program, ErrNoBinary))
	}
	if err := h.makeKubeCgroup(); err != nil {
		return false, h.wrap("configure waggle-kube", err)
	}
	path, text := filepath.Join(h.Dir(), "etc/kube.yaml"), h.KubeConfig(o.Config...)
	// The environment is a part of what a server is started with.
	if o.Proxy != "" {
		text += fmt.Sprintf("# proxy: %s, but for %s\n", o.Proxy, strings.Join(o.NoProxy, ","))
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return false, nil
	}
	return true, h.wrap("configure waggle-kube", writeFileAtomic(path, []byte(text), 0o600))
}

// StartKube is RunKube with lines of configuration and nothing else.
func (h *Host) StartKube(ctx context.Context, extraConfig ...string) (*Process, error) {
	return h.RunKube(ctx, KubeOptions{Config: extraConfig})
}

// RunKube configures waggle-kube and starts its server on this host. It does not wait
// until the node is ready. The host needs the folders of KubePrivate.
func (h *Host) RunKube(ctx context.Context, o KubeOptions) (*Process, error) {
	if _, err := h.PrepareKube(o); err != nil {
		return nil, err
	}
	argv := h.kubeArgv("server")
	if o.Proxy != "" {
		settings := []string{"env", "HTTP_PROXY=" + o.Proxy, "HTTPS_PROXY=" + o.Proxy, "NO_PROXY=" + strings.Join(o.NoProxy, ",")}
		argv = slices.Insert(argv, len(argv)-2, settings...)
	}
	return h.Start(ctx, KubeProcess, argv...)
}

// KubeCommand returns a command of waggle-kube's on this host, such as "status".
func (h *Host) KubeCommand(ctx context.Context, args ...string) *exec.Cmd {
	argv := h.kubeArgv(args...)
	return h.Command(ctx, argv[0], argv[1:]...)
}

// kubeArgv starts waggle-kube without what the environment says about the machine: its
// proxies cannot be reached from inside, nor is its cluster or its server meant.
func (h *Host) kubeArgv(args ...string) []string {
	argv := []string{"env"}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch upper := strings.ToUpper(name); {
		case strings.HasPrefix(name, "WAGGLE_"), name == "KUBECONFIG", strings.HasSuffix(upper, "_PROXY"):
			argv = append(argv, "-u", name)
		}
	}
	return append(append(argv, filepath.Join(h.lab.BinDir, "waggle-kube")), args...)
}
