// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// PodOptions names a pod to add.
type PodOptions struct {
	Namespace string // default "default"
	Name      string // required; unique within its namespace on a host
}

// Pod is a network namespace on a node, given its network by the node's CNI
// plugin, with a cgroup below the node's.
type Pod struct {
	Name        string           `json:"name"`
	Namespace   string           `json:"namespace"`
	UID         string           `json:"uid"`
	NetNS       string           `json:"netns"` // valid inside and outside the host
	ContainerID string           `json:"containerID"`
	Result      *types100.Result `json:"result"`
	IPs         []netip.Addr     `json:"ips"`
	Host        *Host            `json:"-"`
}

// AddPod makes a pod: namespace, cgroup, CNI ADD. If ADD fails, CNI DEL runs and
// nothing is left, which is what runtimes do.
func (h *Host) AddPod(ctx context.Context, o PodOptions) (*Pod, error) {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.Name == "" || strings.ContainsAny(o.Namespace+o.Name, "/_; =") {
		return nil, h.wrap("add pod", fmt.Errorf("bad name %q or namespace %q", o.Name, o.Namespace))
	}
	var suffix [4]byte
	rand.Read(suffix[:])
	id := fmt.Sprintf("%s-%s-%x", o.Namespace, o.Name, suffix)
	p := &Pod{Name: o.Name, Namespace: o.Namespace, UID: id, ContainerID: id, Host: h,
		NetNS: filepath.Join(h.PodNetNSDir(), id)}
	if old, err := h.Pod(o.Namespace, o.Name); err == nil {
		return nil, p.wrap("add", fmt.Errorf("exists already as %s", old.ContainerID))
	}
	err := p.create(ctx)
	if err == nil {
		err = p.save()
	}
	if err != nil {
		undo := context.WithoutCancel(ctx)
		// DEL after a failed ADD often fails for the same reason: the first error is
		// the one that helps.
		_ = p.cniDel(undo)
		return nil, errors.Join(p.wrap("add", err), p.remove())
	}
	return p, nil
}

func (p *Pod) create(ctx context.Context) error {
	if err := os.Mkdir(p.CgroupRoot(), 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if err := createPodNetNS(p.NetNS); err != nil {
		return err
	}
	return p.cniAdd(ctx)
}

// createPodNetNS makes a namespace with its loopback up, as runtimes do, and
// binds it to path.
func createPodNetNS(path string) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		return bindFile("/proc/thread-self/ns/net", path)
	})
}

// takeAddresses fills IPs from the CNI result.
func (p *Pod) takeAddresses() error {
	for _, ip := range p.Result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return fmt.Errorf("read result: bad address %q", ip.Address.IP)
		}
		p.IPs = append(p.IPs, addr.Unmap())
	}
	return nil
}

// Addr returns the pod's first address of the family of like, or the zero Addr.
func (p *Pod) Addr(ipv4 bool) netip.Addr {
	for _, ip := range p.IPs {
		if ip.Is4() == ipv4 {
			return ip
		}
	}
	return netip.Addr{}
}

// Delete ends the pod's processes, runs CNI DEL and removes the namespace.
func (p *Pod) Delete(ctx context.Context) error {
	if err := p.killAll(ctx); err != nil {
		return p.wrap("delete", err)
	}
	// A failed DEL is an error to a runtime too: it keeps the pod and tries again.
	if err := p.cniDel(ctx); err != nil {
		return p.wrap("delete", err)
	}
	return p.wrap("delete", p.remove())
}

// members are the processes in the pod's cgroup: whoever else looks into its
// network namespace is left alone.
func (p *Pod) members() *members {
	return &members{cgroup: p.CgroupRoot()}
}

func (p *Pod) killAll(ctx context.Context) error {
	return p.members().killAll(ctx)
}

// remove removes what create made; what is not there is fine.
func (p *Pod) remove() error {
	err := unix.Unmount(p.NetNS, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace: %w", err)
	}
	return errors.Join(ignoreGone(os.Remove(p.NetNS)), ignoreGone(os.Remove(p.statePath())),
		p.members().removeCgroups(context.Background()))
}

// CgroupRoot is the pod's cgroup2 folder.
func (p *Pod) CgroupRoot() string { return filepath.Join(p.Host.CgroupRoot(), "pods", p.ContainerID) }

// Do runs fn on a thread in the pod's network namespace, with the machine's mount
// namespace. Sockets made in it belong to the calling process's cgroup, so the
// node's socket programs do not see them and service addresses are not translated
// at connect. Use Command where that matters.
func (p *Pod) Do(fn func() error) error {
	return inNamespaces(fn, nsFile{p.NetNS, unix.CLONE_NEWNET})
}

// Command returns a command that runs in the pod's network namespace and cgroup,
// with its host's mount and UTS namespaces. It dies with ctx.
func (p *Pod) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return enterCommand(ctx, p.CgroupRoot(), p.Host.nsenter(p.NetNS, name, args))
}

// Run runs a command to its end, like Host.Run.
func (p *Pod) Run(ctx context.Context, name string, args ...string) (string, error) {
	return runCommand(p.String(), p.Command(ctx, name, args...), name, args)
}

// Start starts a program in the background, like Host.Start. The process's name
// on the host is the pod's container ID, a dot and the given name.
func (p *Pod) Start(ctx context.Context, name string, argv ...string) (*Process, error) {
	if len(argv) == 0 {
		return nil, p.wrap("start "+name, errors.New("no program given"))
	}
	return p.Host.start(ctx, p.ContainerID+"."+name, p.CgroupRoot(), p.Host.nsenter(p.NetNS, argv[0], argv[1:]))
}

// String returns host/name, or host/namespace/name outside of "default".
func (p *Pod) String() string {
	if p.Namespace == "default" {
		return p.Host.Name + "/" + p.Name
	}
	return p.Host.Name + "/" + p.Namespace + "/" + p.Name
}

func (p *Pod) wrap(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s pod %s: %w", step, p, err)
}

func (p *Pod) attachment() types.GCAttachment {
	return types.GCAttachment{ContainerID: p.ContainerID, IfName: "eth0"}
}

func (p *Pod) statePath() string {
	return filepath.Join(p.Host.Dir(), "pods", p.ContainerID+".json")
}

func (p *Pod) save() error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode pod: %w", err)
	}
	return writeFileAtomic(p.statePath(), append(data, '\n'), 0o644)
}

// Pods returns the host's pods, whoever added them, in order of their names.
func (h *Host) Pods() ([]*Pod, error) {
	files, err := filepath.Glob(filepath.Join(h.Dir(), "pods", "*.json"))
	if err != nil {
		return nil, h.wrap("list pods", err)
	}
	var pods []*Pod
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, h.wrap("list pods", err)
		}
		p := &Pod{Host: h}
		if err := json.Unmarshal(data, p); err != nil {
			return nil, h.wrap("decode "+file, err)
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// Pod finds a pod by its names.
func (h *Host) Pod(namespace, name string) (*Pod, error) {
	pods, err := h.Pods()
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if p.Namespace == namespace && p.Name == name {
			return p, nil
		}
	}
	return nil, h.wrap("find pod "+namespace+"/"+name, os.ErrNotExist)
}
