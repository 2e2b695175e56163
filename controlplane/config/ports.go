// SPDX-License-Identifier: Apache-2.0

package config

import "fmt"

// Scope says from where a port can be reached.
type Scope string

// The scopes of ports.
const (
	AllAddresses  Scope = "all addresses"
	NodeAddresses Scope = "the node's addresses"
	LoopbackOnly  Scope = "loopback"
)

// Port is one that a server listens on.
type Port struct {
	Number   int
	Protocol string // TCP or UDP
	Scope    Scope
	Use      string
	Field    string // of the configuration that sets it, empty where none does
}

// String is the port as ss and others write it.
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

// The ports that no field sets.
const (
	EtcdClientPort        = 2379
	EtcdPeerPort          = 2380
	EtcdHTTPPort          = 2381
	KubeletHealthPort     = 10248
	DNSMetricsPort        = 9153
	KubeletPort           = 10250
	ControllerManagerPort = 10257
	SchedulerPort         = 10259
)

// Ports are all ports that a server listens on, but for what services of type
// NodePort and host-network pods add.
func Ports(c *Config) []Port {
	return []Port{
		{c.APIServer.Port, "TCP", AllAddresses, "Kubernetes API", "apiserver.port"},
		{KubeletPort, "TCP", AllAddresses, "kubelet: logs, exec, metrics", ""},
		{c.DNS.Port, "UDP", NodeAddresses, "cluster DNS", "dns.port"},
		{c.DNS.Port, "TCP", NodeAddresses, "cluster DNS", "dns.port"},
		{EtcdClientPort, "TCP", LoopbackOnly, "etcd: the API's requests", ""},
		{EtcdPeerPort, "TCP", LoopbackOnly, "etcd: other members", ""},
		{EtcdHTTPPort, "TCP", LoopbackOnly, "etcd: health, metrics", ""},
		{KubeletHealthPort, "TCP", LoopbackOnly, "kubelet: health", ""},
		{DNSMetricsPort, "TCP", LoopbackOnly, "cluster DNS: metrics", ""},
		{ControllerManagerPort, "TCP", LoopbackOnly, "controller-manager: health, metrics", ""},
		{SchedulerPort, "TCP", LoopbackOnly, "scheduler: health, metrics", ""},
	}
}
