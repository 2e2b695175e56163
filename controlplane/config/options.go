// SPDX-License-Identifier: Apache-2.0

package config

import (
	"github.com/spf13/pflag"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/internal/config/option"
)

// options are the fields that have a flag and an environment variable. The texts
// are also those of docs/kube-config.md.
var options = option.Set[Config]{Default: Default, Env: EnvPrefix, Options: []option.Option[Config]{
	{Field: "nodeName", Unit: "name", Usage: "this node's name in the cluster (default: the host name)", Ptr: func(c *Config) any { return &c.NodeName }},
	{Field: "nodeIPs", Unit: "addresses", Usage: "this node's addresses, at most one a family (default: those that its default routes use)", Ptr: func(c *Config) any { return &c.NodeIPs }},
	{Field: "dataDir", Unit: "dir", Usage: "what must survive a reboot", Ptr: func(c *Config) any { return &c.DataDir }},
	{Field: "runDir", Unit: "dir", Usage: "sockets, and what need not survive a reboot", Ptr: func(c *Config) any { return &c.RunDir }},
	{Field: "apiserver.port", Unit: "port", Usage: "TCP port of the Kubernetes API", Ptr: func(c *Config) any { return &c.APIServer.Port }},
	{Field: "apiserver.tlsSANs", Unit: "names", Usage: "further names and addresses for the API's certificate", Ptr: func(c *Config) any { return &c.APIServer.TLSSANs }},
	{Field: "apiserver.serviceNodePorts", Unit: "range", Usage: "ports for services of type NodePort", Ptr: func(c *Config) any { return &c.APIServer.ServiceNodePorts }},
	{Field: "podCIDRs", Unit: "cidrs", Usage: "ranges of all pods, at most one a family, the primary family first", Ptr: func(c *Config) any { return &c.PodCIDRs }},
	{Field: "serviceCIDRs", Unit: "cidrs", Usage: "ranges of services, of the families of the pods in the same order", Ptr: func(c *Config) any { return &c.ServiceCIDRs }},
	{Field: "nodeCIDRMaskSizes.ipv4", Unit: "bits", Usage: "prefix length of the IPv4 range of one node's pods", Ptr: func(c *Config) any { return &c.NodeCIDRMaskSizes.IPv4 }},
	{Field: "nodeCIDRMaskSizes.ipv6", Unit: "bits", Usage: "prefix length of the IPv6 range of one node's pods", Ptr: func(c *Config) any { return &c.NodeCIDRMaskSizes.IPv6 }},
	{Field: "clusterDomain", Unit: "domain", Usage: "DNS domain of services", Ptr: func(c *Config) any { return &c.ClusterDomain }},
	{Field: "dns.addresses", Unit: "addresses", Usage: "addresses of the cluster DNS service (default: the tenth of each service range)", Ptr: func(c *Config) any { return &c.DNS.Addresses }},
	{Field: "dns.port", Unit: "port", Usage: "port on the node's addresses where its DNS answers", Ptr: func(c *Config) any { return &c.DNS.Port }},
	{Field: "dns.upstreams", Unit: "servers", Usage: "DNS servers for other names, as in 192.0.2.53 or [2001:db8::53]:5353 (default: those of the system's resolv.conf)", Ptr: func(c *Config) any { return &c.DNS.Upstreams }},
	{Field: "dataplane.enabled", Unit: "", Usage: "run waggled; without it, bring a CNI plugin and something that serves services", Ptr: func(c *Config) any { return &c.Dataplane.Enabled }},
	{Field: "dataplane.config", Unit: "yaml", Usage: "keys of waggled's DaemonConfig, as in {mtu: 1400}", Ptr: func(c *Config) any { return &c.Dataplane.Config }},
	{Field: "containerRuntime.cniBinDir", Unit: "dir", Usage: "where containerd looks for CNI plugins", Ptr: func(c *Config) any { return &c.ContainerRuntime.CNIBinDir }},
	{Field: "containerRuntime.cniConfDir", Unit: "dir", Usage: "where containerd looks for network configuration", Ptr: func(c *Config) any { return &c.ContainerRuntime.CNIConfDir }},
	{Field: "containerRuntime.registries", Unit: "yaml", Usage: "mirrors and credentials of registries, as in [{host: docker.io, mirrors: [{url: https://mirror.example}]}]", Ptr: func(c *Config) any { return &c.ContainerRuntime.Registries }},
	{Field: "kubelet.config", Unit: "yaml", Usage: "keys of KubeletConfiguration (kubelet.config.k8s.io/v1beta1), as in {maxPods: 200}", Ptr: func(c *Config) any { return &c.Kubelet.Config }},
	{Field: "kubelet.cgroupRoot", Unit: "cgroup", Usage: "cgroup that pods' cgroups are made in", Ptr: func(c *Config) any { return &c.Kubelet.CgroupRoot }},
	{Field: "kubelet.labels", Unit: "name=value", Usage: "label of the node; repeat it for more, or write {name: value, ...}", Ptr: func(c *Config) any { return &c.Kubelet.Labels }},
	{Field: "kubelet.taints", Unit: "taints", Usage: "taints of the node, as in key=value:NoSchedule", Ptr: func(c *Config) any { return &c.Kubelet.Taints }},
	{Field: "components.etcd", Unit: "name=value", Usage: "flag for etcd; repeat it for more, or write {name: value, ...}", Ptr: func(c *Config) any { return &c.Components.Etcd }},
	{Field: "components.apiserver", Unit: "name=value", Usage: "flag for kube-apiserver, likewise", Ptr: func(c *Config) any { return &c.Components.APIServer }},
	{Field: "components.controllerManager", Unit: "name=value", Usage: "flag for kube-controller-manager, likewise", Ptr: func(c *Config) any { return &c.Components.ControllerManager }},
	{Field: "components.scheduler", Unit: "name=value", Usage: "flag for kube-scheduler, likewise", Ptr: func(c *Config) any { return &c.Components.Scheduler }},
	{Field: "etcd.profile", Unit: "profile", Usage: "etcd's timeouts: default, or slow-disk for SD cards and network disks", Ptr: func(c *Config) any { return &c.Etcd.Profile }},
	{Field: "etcd.quotaBytes", Unit: "size", Usage: "how large etcd's database may become, 64Mi to 8Gi", Ptr: func(c *Config) any { return &c.Etcd.QuotaBytes }},
	{Field: "audit.enabled", Unit: "", Usage: "write the API's audit log", Ptr: func(c *Config) any { return &c.Audit.Enabled }},
	{Field: "audit.policyFile", Unit: "file", Usage: "what is written to it, an audit.k8s.io/v1 Policy (default: the metadata of changes, and of what people read)", Ptr: func(c *Config) any { return &c.Audit.PolicyFile }},
	{Field: "audit.path", Unit: "file", Usage: "the audit log (default: log/audit.log in the data folder)", Ptr: func(c *Config) any { return &c.Audit.Path }},
	{Field: "audit.maxAgeDays", Unit: "days", Usage: "how long audit logs are kept", Ptr: func(c *Config) any { return &c.Audit.MaxAgeDays }},
	{Field: "audit.maxBackups", Unit: "files", Usage: "how many ended audit logs are kept", Ptr: func(c *Config) any { return &c.Audit.MaxBackups }},
	{Field: "audit.maxSizeMB", Unit: "megabytes", Usage: "size at which an audit log ends and the next begins", Ptr: func(c *Config) any { return &c.Audit.MaxSizeMB }},
	{Field: "certificates.validity", Unit: "duration", Usage: "how long certificates hold, but for those of the CAs", Ptr: func(c *Config) any { return &c.Certificates.Validity }},
	{Field: "certificates.renewBefore", Unit: "duration", Usage: "how long before its end a certificate is renewed", Ptr: func(c *Config) any { return &c.Certificates.RenewBefore }},
	{Field: "snapshots.dir", Unit: "dir", Usage: "snapshots of the cluster's state (default: snapshots in the data folder)", Ptr: func(c *Config) any { return &c.Snapshots.Dir }},
	{Field: "snapshots.interval", Unit: "duration", Usage: "time between two snapshots; 0s takes none", Ptr: func(c *Config) any { return &c.Snapshots.Interval }},
	{Field: "snapshots.keep", Unit: "snapshots", Usage: "how many snapshots are kept", Ptr: func(c *Config) any { return &c.Snapshots.Keep }},
	{Field: "logLevel", Unit: "level", Usage: "debug, info, warn or error", Ptr: func(c *Config) any { return &c.LogLevel }},
}}

// configFlag is not a field: it says where the fields are.
const configFlag, configEnv = "config", EnvPrefix + "CONFIG"

// AddFlags adds to flags --config, and a flag for each field of the file, named
// after it in kebab case: apiserver.port is --apiserver-port, and its environment
// variable WAGGLE_APISERVER_PORT. Flags win over the environment, which wins over
// the file; a list or mapping replaces the one below.
func AddFlags(flags *pflag.FlagSet) {
	flags.String(configFlag, layout.DefaultConfig, "configuration file; this one may be absent")
	options.AddFlags(flags)
}

// FlagError adds to an error of parsing flags which one may be meant, for cobra's
// SetFlagErrorFunc.
func FlagError(flags *pflag.FlagSet, err error) error { return option.FlagError(flags, err) }
