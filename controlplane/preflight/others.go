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
	switch {
	case p.OwnDataplane:
		return p.ownCNI(names)
	case len(names) == 0:
		return ok("none in %s yet: the node is not ready before a CNI plugin is configured there", p.CNIConfDir)
	case len(names) > 1:
		return ok("%s in %s is used, the first of %d by name", names[0], p.CNIConfDir, len(names))
	}
	return ok("%s in %s is used", names[0], p.CNIConfDir)
}

// ownCNI is what it means that there are these, in their order, where waggled puts its
// own.
func (p *probe) ownCNI(names []string) []Finding {
	i, found := slices.BinarySearch(names, cni.ConflistName)
	switch before := names[:i]; {
	case len(before) > 0:
		var moves []string
		for _, name := range before {
			path := filepath.Join(p.CNIConfDir, name)
			moves = append(moves, "mv "+path+" "+path+".off")
		}
		return warn(strings.Join(moves, " && ")+", or set containerRuntime.cniConfDir to a folder of its own",
			"%s holds %s, and containerd takes the first by name, not waggled's %s: pods get that network, and no service of the cluster", p.CNIConfDir, strings.Join(before, ", "), cni.ConflistName)
	case found:
		return ok("waggled's %s in %s is used", cni.ConflistName, p.CNIConfDir)
	case len(names) > 0:
		return ok("waggled puts %s into %s, before %s", cni.ConflistName, p.CNIConfDir, names[0])
	}
	return ok("waggled puts %s into %s", cni.ConflistName, p.CNIConfDir)
}
