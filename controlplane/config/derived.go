// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Layout is where the node keeps its files.
func (c *Config) Layout() layout.Layout { return layout.Layout{Data: c.DataDir, Run: c.RunDir} }

// Families are those of the cluster, the primary one first.
func (c *Config) Families() []Family { return prefixFamilies(c.PodCIDRs) }

// PrimaryFamily is the family of what has one address only.
func (c *Config) PrimaryFamily() Family { return FamilyOf(c.PodCIDRs[0].Addr()) }

// KubernetesServiceIPs are the addresses of the service kubernetes.default, under
// which pods find the API: the first of each service range.
func (c *Config) KubernetesServiceIPs() []netip.Addr {
	out := make([]netip.Addr, len(c.ServiceCIDRs))
	for i, cidr := range c.ServiceCIDRs {
		out[i] = nth(cidr, 1)
	}
	return out
}

// Loopback is the address where the node's processes find each other.
func (c *Config) Loopback() netip.Addr {
	if c.PrimaryFamily() == IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// APIServerURL is where the node's processes find the API.
func (c *Config) APIServerURL() string {
	return "https://" + net.JoinHostPort(c.Loopback().String(), strconv.Itoa(c.APIServer.Port))
}

// APIServerNames are the names that the API's certificate must hold.
func (c *Config) APIServerNames() []string {
	svc := "kubernetes.default.svc"
	names := []string{"kubernetes", "kubernetes.default", svc, svc + "." + c.ClusterDomain, "localhost", c.NodeName}
	for _, san := range c.APIServer.TLSSANs {
		if _, err := netip.ParseAddr(san); err != nil && !slices.Contains(names, san) {
			names = append(names, san)
		}
	}
	return names
}

// APIServerIPs are the addresses that the API's certificate must hold.
func (c *Config) APIServerIPs() []netip.Addr {
	ips := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	ips = append(ips, c.KubernetesServiceIPs()...)
	ips = append(ips, c.NodeIPs...)
	for _, san := range c.APIServer.TLSSANs {
		if a, err := netip.ParseAddr(san); err == nil && !slices.Contains(ips, a) {
			ips = append(ips, a)
		}
	}
	return ips
}

// MaskSize is the prefix length of a node's range of the family.
func (c *Config) MaskSize(f Family) int {
	if f == IPv4 {
		return c.NodeCIDRMaskSizes.IPv4
	}
	return c.NodeCIDRMaskSizes.IPv6
}

// ReadPassword is the password of the registry, empty for one without credentials.
func (r *Registry) ReadPassword() (Secret, error) {
	if r.PasswordFile == "" {
		return r.Password, nil
	}
	b, err := os.ReadFile(r.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password of registry %s: %w", r.Host, err)
	}
	return Secret(strings.TrimRight(string(b), "\r\n")), nil
}

// String is the configuration as one line of JSON without secrets, for logs.
func (c *Config) String() string {
	open := *c
	open.ContainerRuntime.Registries = slices.Clone(c.ContainerRuntime.Registries)
	for i, r := range open.ContainerRuntime.Registries {
		if r.Password != "" {
			open.ContainerRuntime.Registries[i].Password = redacted
		}
	}
	b, err := json.Marshal(&open)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LogValue implements slog.LogValuer, without secrets.
func (c *Config) LogValue() slog.Value { return slog.StringValue(c.String()) }
