// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config"
	"github.com/waggle-net/waggle/internal/config/strict"
)

// ownedDataplaneKeys are the keys of DaemonConfig that are ours, and what to do
// instead.
var ownedDataplaneKeys = map[string]string{
	"apiVersion":   identityRemedy,
	"kind":         identityRemedy,
	"nodeName":     "set nodeName of this configuration",
	"podCIDRs":     "the control plane gives each node its range: set podCIDRs of this configuration",
	"clusterCIDRs": "set podCIDRs of this configuration",
	"kubernetes":   "waggle-kube makes waggled's credentials: take it out",
	"intentFile":   "the cluster says which nodes and services there are: take it out",
	"stateDir":     "it is a folder of dataDir: take it out",
	"cni":          "set containerRuntime.cniBinDir and containerRuntime.cniConfDir",
}

// defaultDaemonConfig is what waggled gets where dataplane.config says nothing.
func (c *Config) defaultDaemonConfig() *config.Config {
	l := c.Layout()
	d := config.Default()
	d.NodeName = c.NodeName
	d.ClusterCIDRs = slices.Clone(c.PodCIDRs)
	d.Kubernetes = config.Kubernetes{Kubeconfig: l.Kubeconfig("waggled"), Servers: []string{}}
	d.IntentFile = ""
	d.StateDir = l.WaggledDir()
	d.LogLevel = c.LogLevel
	d.CNI.BinDir, d.CNI.ConfDir = c.ContainerRuntime.CNIBinDir, c.ContainerRuntime.CNIConfDir
	return d
}

// DaemonConfig is the configuration of this node's waggled. It is complete, and
// valid if the configuration is.
func (c *Config) DaemonConfig() (*config.Config, field.ErrorList) {
	p := field.NewPath("dataplane", "config")
	d := c.defaultDaemonConfig()
	b, err := json.Marshal(c.Dataplane.Config)
	if err != nil { // no document has such a value
		return d, field.ErrorList{field.Forbidden(p, err.Error())}
	}
	errs, err := strict.DecodeAt(p, b, d)
	if err != nil {
		errs = append(errs, field.Forbidden(p, err.Error()))
	}
	return d, errs
}

func (c *Config) validateDataplane(p *field.Path) field.ErrorList {
	p = p.Child("config")
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(c.Dataplane.Config)) {
		if remedy, owned := ownedDataplaneKeys[key]; owned {
			errs = append(errs, field.Forbidden(p.Child(key), remedy))
		}
	}
	if len(errs) > 0 {
		return errs // what follows would tell the same again
	}
	d, errs := c.DaemonConfig()
	if len(errs) > 0 {
		return errs
	}
	// What is wrong by ours alone is told by the field that it comes from.
	ours := map[string]bool{}
	for _, e := range c.defaultDaemonConfig().Validate() {
		ours[e.Error()] = true
	}
	for _, e := range d.Validate() {
		if !ours[e.Error()] {
			e.Field = p.Child(e.Field).String()
			errs = append(errs, e)
		}
	}
	return errs
}
