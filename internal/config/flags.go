// SPDX-License-Identifier: Apache-2.0

package config

import (
	"github.com/spf13/pflag"

	"github.com/waggle-net/waggle/internal/config/option"
)

// options are the fields that have a flag.
var options = option.Set[Config]{Default: Default, Options: []option.Option[Config]{
	{Field: "nodeName", Unit: "name", Usage: "this node's name in the cluster (default: the host name)", Ptr: func(c *Config) any { return &c.NodeName }},
	{Field: "podCIDRs", Unit: "cidrs", Usage: "ranges of this node's pods, at most one a family (default: those of the Node object)", Ptr: func(c *Config) any { return &c.PodCIDRs }},
	{Field: "clusterCIDRs", Unit: "cidrs", Usage: "ranges of all pods of the cluster (default: the pod CIDRs)", Ptr: func(c *Config) any { return &c.ClusterCIDRs }},
	{Field: "kubernetes.kubeconfig", Unit: "file", Usage: "credentials for the cluster that says what there is (default: none, the intent file says it)", Ptr: func(c *Config) any { return &c.Kubernetes.Kubeconfig }},
	{Field: "kubernetes.servers", Unit: "urls", Usage: "API servers, asked in turn (default: that of the kubeconfig)", Ptr: func(c *Config) any { return &c.Kubernetes.Servers }},
	{Field: "masquerade", Unit: "", Usage: "give packets of pods to the world the node's address", Ptr: func(c *Config) any { return &c.Masquerade }},
	{Field: "masqueradeExclusions", Unit: "cidrs", Usage: "ranges that see the addresses of pods nevertheless", Ptr: func(c *Config) any { return &c.MasqueradeExclusions }},
	{Field: "mtu", Unit: "bytes", Usage: "MTU of the pods' devices (default: that of the default route's device)", Ptr: func(c *Config) any { return &c.MTU }},
	{Field: "bpfRoot", Unit: "dir", Usage: "where a bpf file system is mounted", Ptr: func(c *Config) any { return &c.BPFRoot }},
	{Field: "cgroupRoot", Unit: "dir", Usage: "cgroup2 directory of the socket programs (default: where cgroup2 is mounted)", Ptr: func(c *Config) any { return &c.CgroupRoot }},
	{Field: "runDir", Unit: "dir", Usage: "sockets, and what need not survive a reboot", Ptr: func(c *Config) any { return &c.RunDir }},
	{Field: "stateDir", Unit: "dir", Usage: "what must survive a reboot", Ptr: func(c *Config) any { return &c.StateDir }},
	{Field: "intentFile", Unit: "file", Usage: "nodes and services, without a cluster", Ptr: func(c *Config) any { return &c.IntentFile }},
	{Field: "logLevel", Unit: "level", Usage: "debug, info, warn or error", Ptr: func(c *Config) any { return &c.LogLevel }},
	{Field: "ipam.restTime", Unit: "duration", Usage: "how long a released address is not given to another pod", Ptr: func(c *Config) any { return &c.IPAM.RestTime }},
	{Field: "attach", Unit: "how", Usage: "how programs are attached to devices: auto, tcx or tc", Ptr: func(c *Config) any { return &c.Attach }},
	{Field: "maps.frontends", Unit: "entries", Usage: "size of the table of service addresses and ports", Ptr: func(c *Config) any { return &c.Maps.Frontends }},
	{Field: "maps.slots", Unit: "entries", Usage: "size of the table of backend slots", Ptr: func(c *Config) any { return &c.Maps.Slots }},
	{Field: "maps.backends", Unit: "entries", Usage: "size of the table of backends", Ptr: func(c *Config) any { return &c.Maps.Backends }},
	{Field: "maps.conntrack", Unit: "entries", Usage: "size of the table of flows that need state", Ptr: func(c *Config) any { return &c.Maps.Conntrack }},
	{Field: "maps.fragments", Unit: "entries", Usage: "size of the table of fragmented packets", Ptr: func(c *Config) any { return &c.Maps.Fragments }},
	{Field: "cni.install", Unit: "", Usage: "put the CNI plugin and its configuration in place", Ptr: func(c *Config) any { return &c.CNI.Install }},
	{Field: "cni.binDir", Unit: "dir", Usage: "where the container runtime looks for plugins", Ptr: func(c *Config) any { return &c.CNI.BinDir }},
	{Field: "cni.confDir", Unit: "dir", Usage: "where the container runtime looks for network configuration", Ptr: func(c *Config) any { return &c.CNI.ConfDir }},
}}

// AddFlags adds a flag for each field to flags, named after it in kebab case:
// ipam.restTime is --ipam-rest-time. A flag that is set wins over the file; a
// list replaces the list of the file.
func AddFlags(flags *pflag.FlagSet) { options.AddFlags(flags) }

// FlagName is the name of the flag for a field of the file.
func FlagName(path string) string { return option.FlagName(path) }
