// SPDX-License-Identifier: Apache-2.0

// Package config is the daemon's configuration: one versioned file, and flags
// over it.
//
// A configuration is validated as a whole, and every error names the field and
// what to write instead. What Load returns is complete: defaults that depend on
// the machine or on other fields are filled in, and nothing needs to be checked
// again.
package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/internal/config/option"
)

// The version and kind that a configuration file must name.
const (
	APIVersion = "waggle.dev/v1alpha1"
	Kind       = "DaemonConfig"
)

// DefaultPath is where the daemon looks for its configuration file.
const DefaultPath = "/etc/waggle/waggled.yaml"

// Config is the daemon's configuration. The json tags are the keys of the file;
// the flags are named after them (see AddFlags).
type Config struct {
	// APIVersion and Kind say what the file is: APIVersion and Kind, above.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// NodeName is this node's name in the cluster. Default: the host name, in
	// lower case.
	NodeName string `json:"nodeName"`
	// PodCIDRs are the ranges that this node's pods get their addresses from,
	// at most one a family. Default: those of the Node object, with a cluster;
	// required without one.
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// ClusterCIDRs are the ranges that all pods of the cluster are in: every
	// pod CIDR lies inside of one. Default: the pod CIDRs; required with a
	// cluster, of which other nodes have other ranges.
	ClusterCIDRs []netip.Prefix `json:"clusterCIDRs"`

	// Kubernetes is the cluster that says which nodes and services there are.
	// Default: none, and IntentFile says it.
	Kubernetes Kubernetes `json:"kubernetes"`

	// Masquerade gives the packets of pods to the world the node's address.
	// Default: true.
	Masquerade bool `json:"masquerade"`
	// MasqueradeExclusions are ranges outside of the cluster that see the
	// addresses of pods nevertheless. Default: none.
	MasqueradeExclusions []netip.Prefix `json:"masqueradeExclusions"`

	// MTU of the pods' devices in bytes. Default: 0, the MTU of the device that
	// the default route leaves by.
	MTU int `json:"mtu"`

	// BPFRoot is where a bpf file system is mounted. Default: /sys/fs/bpf.
	BPFRoot string `json:"bpfRoot"`
	// CgroupRoot is the cgroup2 directory that the socket programs are attached
	// to. Default: empty, where cgroup2 is mounted.
	CgroupRoot string `json:"cgroupRoot"`
	// RunDir holds sockets and what need not survive a reboot. Default: /run/waggle.
	RunDir string `json:"runDir"`
	// StateDir holds what must survive a reboot. Default: /var/lib/waggle.
	StateDir string `json:"stateDir"`
	// IntentFile is the file that says which nodes and services there are, where
	// no cluster does. Default: /etc/waggle/intent.yaml.
	IntentFile string `json:"intentFile"`

	// LogLevel is the least severe level that is logged. Default: info.
	LogLevel LogLevel `json:"logLevel"`
	// IPAM is how pods get their addresses.
	IPAM IPAM `json:"ipam"`
	// Attach is how programs are attached to devices. Default: auto.
	Attach Attach `json:"attach"`
	// Maps are the sizes of the kernel's tables.
	Maps Maps `json:"maps"`
	// CNI is the installation of the CNI plugin on this node.
	CNI CNI `json:"cni"`
}

// Kubernetes is how the API of a cluster is reached.
type Kubernetes struct {
	// Kubeconfig is the file with the daemon's credentials. Its server is asked
	// unless Servers are given. Default: none, and there is no cluster.
	Kubeconfig string `json:"kubeconfig"`
	// Servers are the URLs of API servers, asked in turn until one answers.
	// Default: that of the kubeconfig. Those that the cluster itself names are
	// learned and remembered in StateDir, to be asked after these.
	Servers []string `json:"servers"`
}

// IPAM is how pods get their addresses.
type IPAM struct {
	// RestTime is how long a released address is not given to another pod.
	// Default: 30s.
	RestTime Duration `json:"restTime"`
}

// Maps are the sizes of the kernel's tables, in entries. A table that is full
// is reported with the flag that raises it.
type Maps struct {
	// Frontends are addresses and ports of services. Default: 65536.
	Frontends uint32 `json:"frontends"`
	// Slots are the places of backends in the tables of their services. A table
	// is replaced by writing another one, so there is room for both.
	// Default: 262144.
	Slots uint32 `json:"slots"`
	// Backends are addresses and ports behind services. Default: 65536.
	Backends uint32 `json:"backends"`
	// Conntrack are flows that need state. Default: 131072.
	Conntrack uint32 `json:"conntrack"`
	// Fragments are fragmented packets under way. Default: 8192.
	Fragments uint32 `json:"fragments"`
}

// CNI is the installation of the CNI plugin on this node.
type CNI struct {
	// Install puts the plugin and its configuration in place. Default: true.
	Install bool `json:"install"`
	// BinDir is where the container runtime looks for plugins. Default: /opt/cni/bin.
	BinDir string `json:"binDir"`
	// ConfDir is where the container runtime looks for the configuration of
	// the network. Default: /etc/cni/net.d.
	ConfDir string `json:"confDir"`
}

// Attach is how programs are attached to devices.
type Attach string

// The ways to attach a program to a device.
const (
	AttachAuto Attach = "auto" // tcx where the kernel has it, else tc
	AttachTCX  Attach = "tcx"  // tcx links, from Linux 6.6 on
	AttachTC   Attach = "tc"   // filters of a clsact qdisc
)

// LogLevel is the least severe level that is logged.
type LogLevel = option.LogLevel

// Duration is a span of time that is written as text.
type Duration = option.Duration

// Default returns the configuration of an empty file. NodeName, PodCIDRs and
// ClusterCIDRs are empty in it: they depend on the machine, the user, and each
// other.
func Default() *Config {
	return &Config{
		APIVersion: APIVersion,
		Kind:       Kind,
		Masquerade: true,
		BPFRoot:    "/sys/fs/bpf",
		RunDir:     "/run/waggle",
		StateDir:   "/var/lib/waggle",
		IntentFile: "/etc/waggle/intent.yaml",
		LogLevel:   "info",
		IPAM:       IPAM{RestTime: Duration{Duration: 30 * time.Second}},
		Attach:     AttachAuto,
		Maps:       Maps{Frontends: 65536, Slots: 262144, Backends: 65536, Conntrack: 131072, Fragments: 8192},
		CNI:        CNI{Install: true, BinDir: "/opt/cni/bin", ConfDir: "/etc/cni/net.d"},
	}
}

// CNISocket is the socket on which the daemon answers the CNI plugin.
func (c *Config) CNISocket() string { return filepath.Join(c.RunDir, "cni.sock") }

// APISocket is the socket on which the daemon answers its operator.
func (c *Config) APISocket() string { return filepath.Join(c.RunDir, "waggled.sock") }

// InCluster says that a cluster tells what there is, and not a file.
func (c *Config) InCluster() bool { return c.Kubernetes.Kubeconfig != "" }

// ServersFile remembers the API servers that the cluster named last.
func (c *Config) ServersFile() string { return filepath.Join(c.StateDir, "apiservers.json") }

// NodeFile remembers what the cluster said of this node last.
func (c *Config) NodeFile() string { return filepath.Join(c.StateDir, "node.json") }

// PinDir is the directory under the bpf file system that the daemon pins
// programs, links and maps in.
func (c *Config) PinDir() string { return filepath.Join(c.BPFRoot, "waggle") }

// Write writes the configuration as a file that Load reads, with every key, whole or
// not at all: the daemon may be starting.
func (c *Config) Write(path string) error {
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	return nil
}

// String is the configuration as one line of JSON, for logs.
func (c *Config) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
