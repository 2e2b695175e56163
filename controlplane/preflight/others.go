// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cni "github.com/waggle-net/waggle/cni/install"
)

// otherKubernetes are processes and files that would share pods' cgroups, ports
// and network configuration with ours.
func (p *probe) otherKubernetes(context.Context) []Finding {
	var all []Finding
	for _, d := range []struct {
		name      string
		processes []string
	}{
		{"a kubelet", []string{"kubelet"}},
		{"k3s", []string{"k3s", "k3s-server", "k3s-agent"}},
		{"RKE2", []string{"rke2"}},
		{"k0s", []string{"k0s"}},
		{"MicroK8s", []string{"kubelite"}},
		{"kube-proxy", []string{"kube-proxy"}},
	} {
		if proc, found := p.running(d.processes...); found {
			all = append(all, warn("stop and disable it: one machine is one node of one cluster", "%s runs (pid %d)", d.name, proc.pid)...)
		}
	}
	for _, f := range []string{"/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests"} {
		if entries, err := os.ReadDir(p.path(f)); err == nil && len(entries) == 0 || err != nil && !p.exists(f) {
			continue
		}
		all = append(all, warn("kubeadm reset, if that cluster is not needed any more", "%s is of a node of another cluster", f)...)
	}
	if len(all) == 0 {
		return ok("none")
	}
	return all
}

// cniConfigs names what containerd would take for its network: the first file.
func (p *probe) cniConfigs(context.Context) []Finding {
	entries, _ := os.ReadDir(p.path(p.CNIConfDir)) // in the order of names
	var names []string
	for _, e := range entries {
		if slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			names = append(names, e.Name())
		}
	}
	var before []string
	for _, n := range names {
		if n < cni.ConflistName {
			before = append(before, n)
		}
	}
	switch {
	case len(before) > 0:
		return warn("move what comes first away, or set containerRuntime.cniConfDir to a folder of its own",
			"%s holds %s, and containerd takes the first by name, not our %s: pods get that network", p.CNIConfDir, strings.Join(before, ", "), cni.ConflistName)
	case len(names) > 0 && names[0] != cni.ConflistName:
		return ok("%s holds %s, which is used until waggled puts %s before it", p.CNIConfDir, names[0], cni.ConflistName)
	case len(names) > 0:
		return ok("%s in %s is used", names[0], p.CNIConfDir)
	}
	return ok("none in %s yet: the node is not ready before a CNI plugin is configured there", p.CNIConfDir)
}
