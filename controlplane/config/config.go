// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration of waggle-kube server: one versioned file,
// environment variables over it, and flags over those.
//
// A configuration is validated as a whole, and every error names the field, who
// set it, and what to write instead. What Load returns is complete but for the
// node's addresses (see UseNodeIPs), and nothing needs to be checked again. Write
// and Read carry it to the processes of the node.
package config

import (
	"net/netip"
	"time"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/internal/config/option"
)

// The version and kind that a configuration file must name.
const (
	APIVersion = "waggle.dev/v1alpha1"
	Kind       = "ServerConfig"
)

// EnvPrefix is what the names of our environment variables begin with.
const EnvPrefix = "WAGGLE_"

// Config is the configuration of a server. The json tags are the keys of the file;
// flags and environment variables are named after them (see AddFlags).
type Config struct {
	// APIVersion and Kind say what the file is: APIVersion and Kind, above.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// NodeName is this node's name in the cluster. Default: the host name, in
	// lower case.
	NodeName string `json:"nodeName"`
	// NodeIPs are this node's addresses, at most one a family, in the order of the
	// families of PodCIDRs. Default: empty, and UseNodeIPs fills it in.
	NodeIPs []netip.Addr `json:"nodeIPs"`
	// DataDir holds what must survive a reboot. Default: layout.DefaultDataDir.
	DataDir string `json:"dataDir"`
	// RunDir holds sockets and what need not survive. Default: layout.DefaultRunDir.
	RunDir string `json:"runDir"`

	APIServer APIServer `json:"apiserver"`

	// PodCIDRs are the ranges that each node gets one for its pods from, at most
	// one a family. The first one's family is the cluster's primary one.
	// Default: DefaultPodCIDRs, of the families that nodes and services have.
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// ServiceCIDRs are the ranges of the cluster addresses of services, of the
	// same families in the same order. Default: DefaultServiceCIDRs, likewise.
	ServiceCIDRs []netip.Prefix `json:"serviceCIDRs"`
	// NodeCIDRMaskSizes are the prefix lengths of the nodes' ranges.
	NodeCIDRMaskSizes MaskSizes `json:"nodeCIDRMaskSizes"`
	// ClusterDomain is the DNS domain of services. Default: cluster.local.
	ClusterDomain string `json:"clusterDomain"`

	DNS              DNS              `json:"dns"`
	Dataplane        Dataplane        `json:"dataplane"`
	ContainerRuntime ContainerRuntime `json:"containerRuntime"`
	Kubelet          Kubelet          `json:"kubelet"`
	Components       Components       `json:"components"`
	Etcd             Etcd             `json:"etcd"`
	Audit            Audit            `json:"audit"`
	Certificates     Certificates     `json:"certificates"`
	Snapshots        Snapshots        `json:"snapshots"`

	// LogLevel is the least severe level that is logged. Default: info.
	LogLevel option.LogLevel `json:"logLevel"`
}

// APIServer is how the Kubernetes API is served.
type APIServer struct {
	// Port is the API's TCP port, on all addresses. Default: 6443.
	Port int `json:"port"`
	// TLSSANs are names and addresses for the certificate beside those that the
	// node has by itself. Default: none.
	TLSSANs []string `json:"tlsSANs"`
	// ServiceNodePorts are the ports that services of type NodePort get.
	// Default: 30000-32767.
	ServiceNodePorts PortRange `json:"serviceNodePorts"`
}

// MaskSizes are the prefix lengths of the range that one node's pods have.
type MaskSizes struct {
	IPv4 int `json:"ipv4"` // Default: 24.
	IPv6 int `json:"ipv6"` // Default: 64.
}

// DNS is how cluster DNS is served.
type DNS struct {
	// Addresses are the cluster addresses of the DNS service, one in each of
	// ServiceCIDRs, in their order. Default: the tenth address of each.
	Addresses []netip.Addr `json:"addresses"`
	// Port is where each node answers, on its own addresses. Default: 10053.
	Port int `json:"port"`
	// Upstreams are servers for other names: addresses, with a port if it is not
	// 53. Default: empty, those of the system's resolv.conf.
	Upstreams []string `json:"upstreams"`
}

// Dataplane is how pods get their network, and services their addresses.
type Dataplane struct {
	// Enabled runs waggled. Default: true. Without it, the node is not ready until
	// another CNI plugin is there, and something else must serve services.
	Enabled bool `json:"enabled"`
	// Config is laid over waggled's configuration (DaemonConfig, waggle.dev/v1alpha1),
	// without the keys that are ours. Default: empty.
	Config Fragment `json:"config"`
}

// ContainerRuntime is what containerd is told.
type ContainerRuntime struct {
	// CNIBinDir is where containerd looks for CNI plugins. Default: /opt/cni/bin.
	CNIBinDir string `json:"cniBinDir"`
	// CNIConfDir is where it looks for the configuration of the network.
	// Default: /etc/cni/net.d.
	CNIConfDir string `json:"cniConfDir"`
	// Registries are those that are not just there for everyone. Default: none.
	Registries []Registry `json:"registries"`
}

// Registry says how images of one registry are fetched.
type Registry struct {
	// Host is the registry's name in image references, with its port if they have
	// one; "*" is all registries that have no entry of their own. Required.
	Host string `json:"host"`
	// Mirrors are asked in this order before the registry itself. Default: none.
	Mirrors []Mirror `json:"mirrors"`
	// Username and one of Password and PasswordFile are credentials. Default: none.
	Username     string `json:"username"`
	Password     Secret `json:"password"`
	PasswordFile string `json:"passwordFile"`
	// CAFile has the certificates (PEM) that sign the registry's. Default: those
	// of the system.
	CAFile string `json:"caFile"`
	// SkipVerify accepts any certificate. Default: false.
	SkipVerify bool `json:"skipVerify"`
}

// Mirror is another place for the images of a registry.
type Mirror struct {
	// URL is http or https, host, and a path that goes before /v2. Required.
	URL string `json:"url"`
	// Capabilities are what it is good for: pull (contents by digest), resolve
	// (which digest a tag has). Default: both.
	Capabilities []string `json:"capabilities"`
	// CAFile and SkipVerify are as in Registry.
	CAFile     string `json:"caFile"`
	SkipVerify bool   `json:"skipVerify"`
}

// Kubelet is what the kubelet is told.
type Kubelet struct {
	// Config is laid over our KubeletConfiguration (kubelet.config.k8s.io/v1beta1),
	// without the keys that are ours. Default: empty.
	Config Fragment `json:"config"`
	// CgroupRoot is the cgroup that pods' cgroups are made in, by its path below
	// where cgroups are mounted. It must exist in every hierarchy. For a node that
	// shares its machine with others. Default: /.
	CgroupRoot string `json:"cgroupRoot"`
	// Labels are put on the node when it registers. Default: none.
	Labels map[string]string `json:"labels"`
	// Taints likewise. Default: none.
	Taints []Taint `json:"taints"`
}

// Components are more flags for the components, name to value, without dashes.
// Those that are ours are refused (see OwnedFlag). Default: none.
type Components struct {
	Etcd              map[string]string `json:"etcd"`
	APIServer         map[string]string `json:"apiserver"`
	ControllerManager map[string]string `json:"controllerManager"`
	Scheduler         map[string]string `json:"scheduler"`
}

// Etcd is how the cluster's state is kept.
type Etcd struct {
	// Profile suits timeouts to the disk. Default: default.
	Profile EtcdProfile `json:"profile"`
	// QuotaBytes is how large the database may become. Default: 2Gi.
	QuotaBytes Bytes `json:"quotaBytes"`
}

// EtcdProfile is a choice of etcd's timeouts.
type EtcdProfile string

// The profiles of etcd.
const (
	EtcdDefault  EtcdProfile = "default"   // etcd's own: heartbeat 100 ms, election 1 s
	EtcdSlowDisk EtcdProfile = "slow-disk" // for SD cards and network disks: 500 ms, 5 s
)

// Audit is the API's audit log.
type Audit struct {
	// Enabled writes it. Default: false.
	Enabled bool `json:"enabled"`
	// PolicyFile is an audit.k8s.io/v1 Policy. Default: empty, ours: metadata of
	// all that changes something, and of what people read.
	PolicyFile string `json:"policyFile"`
	// Path of the log. Default: log/audit.log in DataDir.
	Path string `json:"path"`
	// MaxAgeDays and MaxBackups bound the files that are kept. Default: 30 and 10.
	MaxAgeDays int `json:"maxAgeDays"`
	MaxBackups int `json:"maxBackups"`
	// MaxSizeMB is the size at which a file ends. Default: 100.
	MaxSizeMB int `json:"maxSizeMB"`
}

// Certificates is how long the certificates that we make hold.
type Certificates struct {
	// Validity of all but the CAs'. Default: 8760h, a year.
	Validity option.Duration `json:"validity"`
	// RenewBefore is how long before its end a certificate is renewed.
	// Default: 720h, 30 days.
	RenewBefore option.Duration `json:"renewBefore"`
}

// Snapshots is how the cluster's state is saved.
type Snapshots struct {
	// Dir holds the snapshots. Default: snapshots in DataDir.
	Dir string `json:"dir"`
	// Interval between two snapshots; 0 takes none. Default: 12h.
	Interval option.Duration `json:"interval"`
	// Keep is how many of them are kept. Default: 5.
	Keep int `json:"keep"`
}

// DefaultPodCIDRs are ranges for 256 nodes.
func DefaultPodCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}
}

// DefaultServiceCIDRs are ranges for 65536 services.
func DefaultServiceCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
}

// Default returns the configuration of an empty file. What depends on the machine
// or on other fields is empty in it.
func Default() *Config {
	hours := func(n int) option.Duration { return option.Duration{Duration: time.Duration(n) * time.Hour} }
	return &Config{
		APIVersion:        APIVersion,
		Kind:              Kind,
		DataDir:           layout.DefaultDataDir,
		RunDir:            layout.DefaultRunDir,
		APIServer:         APIServer{Port: 6443, ServiceNodePorts: PortRange{30000, 32767}},
		PodCIDRs:          DefaultPodCIDRs(),
		ServiceCIDRs:      DefaultServiceCIDRs(),
		NodeCIDRMaskSizes: MaskSizes{IPv4: 24, IPv6: 64},
		ClusterDomain:     "cluster.local",
		DNS:               DNS{Port: 10053},
		Dataplane:         Dataplane{Enabled: true},
		ContainerRuntime:  ContainerRuntime{CNIBinDir: "/opt/cni/bin", CNIConfDir: "/etc/cni/net.d"},
		Kubelet:           Kubelet{CgroupRoot: "/"},
		Etcd:              Etcd{Profile: EtcdDefault, QuotaBytes: 2 << 30},
		Audit:             Audit{MaxAgeDays: 30, MaxBackups: 10, MaxSizeMB: 100},
		Certificates:      Certificates{Validity: hours(8760), RenewBefore: hours(720)},
		Snapshots:         Snapshots{Interval: hours(12), Keep: 5},
		LogLevel:          "info",
	}
}
