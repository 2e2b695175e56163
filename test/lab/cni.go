// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// What a runtime on the host uses, as seen from inside.
const (
	cniConfDir = "/etc/cni/net.d"
	cniBinDir  = "/opt/cni/bin"
)

// conflist is what a runtime on the host finds in /etc/cni/net.d, until a test
// writes something else to Dir()/cni/net.d.
const conflist = `{
  "cniVersion": "1.1.0",
  "name": "waggle",
  "plugins": [{"type": "waggle-cni"}]
}
`

func (h *Host) writeConflist() error {
	return writeFileAtomic(filepath.Join(h.Dir(), "cni/net.d/10-waggle.conflist"), []byte(conflist), 0o644)
}

// cni runs one verb the way a container runtime on the host would: first
// configuration in the folder, plugins from /opt/cni/bin, inside the host.
func (p *Pod) cni(verb func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	h := p.Host
	return h.Do(func() error {
		files, err := libcni.ConfFiles(cniConfDir, []string{".conflist"})
		if err != nil {
			return fmt.Errorf("list cni configuration: %w", err)
		}
		if len(files) == 0 {
			return fmt.Errorf("find cni configuration: no .conflist in %s", filepath.Join(h.Dir(), "cni/net.d"))
		}
		list, err := libcni.NetworkConfFromFile(files[0])
		if err != nil {
			return fmt.Errorf("read cni configuration: %w", err)
		}
		for _, plugin := range list.Plugins {
			if _, err := os.Stat(filepath.Join(cniBinDir, plugin.Network.Type)); err != nil {
				return fmt.Errorf("find plugin %s in %s: %w", plugin.Network.Type, h.lab.BinDir, ErrNoBinary)
			}
		}
		config := libcni.NewCNIConfigWithCacheDir([]string{cniBinDir}, filepath.Join(h.Dir(), "cni/cache"), nil)
		return verb(config, list, p.runtimeConf())
	})
}

func (p *Pod) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: p.ContainerID,
		NetNS:       p.NetNS,
		IfName:      "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ContainerID},
			{"K8S_POD_UID", p.UID},
		},
	}
}

func (p *Pod) cniAdd(ctx context.Context) error {
	return p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		result, err := c.AddNetworkList(ctx, list, rt)
		if err != nil {
			return err
		}
		p.Result, err = types100.NewResultFromResult(result)
		if err != nil {
			return fmt.Errorf("convert result: %w", err)
		}
		return p.takeAddresses()
	})
}

func (p *Pod) cniDel(ctx context.Context) error {
	return p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.DelNetworkList(ctx, list, rt)
	})
}

// Check runs CNI CHECK: is the pod's network still what ADD had returned?
func (p *Pod) Check(ctx context.Context) error {
	err := p.cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.CheckNetworkList(ctx, list, rt)
	})
	return p.wrap("check", err)
}

// GC runs CNI GC on the host with the attachments of the pods that exist.
func (h *Host) GC(ctx context.Context) error {
	pods, err := h.Pods()
	if err != nil {
		return err
	}
	args := &libcni.GCArgs{}
	for _, p := range pods {
		args.ValidAttachments = append(args.ValidAttachments, p.attachment())
	}
	// No pod is concerned; an empty one only carries the host.
	err = (&Pod{Host: h}).cni(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList, _ *libcni.RuntimeConf) error {
		return c.GCNetworkList(ctx, list, args)
	})
	return h.wrap("collect cni garbage", err)
}
