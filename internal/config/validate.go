// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// Bounds of what can be configured.
const (
	minMTU4, minMTU6, maxMTU = 576, 1280, 65535 // RFC 791 and RFC 8200: what any host must take
	minEntries, maxEntries   = 64, 1 << 24
	maxRestTime              = 24 * time.Hour
	maxSocketPath            = 107 // struct sockaddr_un, with its final zero
)

// Validate returns everything that is wrong with a complete configuration.
func (c *Config) Validate() field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, strict.Header(c.APIVersion, APIVersion, c.Kind, Kind)...)
	errs = append(errs, c.validateNodeName()...)
	errs = append(errs, c.validateCIDRs()...)
	errs = append(errs, c.validateKubernetes(field.NewPath("kubernetes"))...)
	errs = append(errs, c.validateMTU()...)
	errs = append(errs, c.validatePaths()...)
	errs = append(errs, c.LogLevel.Validate(field.NewPath("logLevel"))...)
	if ways := []Attach{AttachAuto, AttachTCX, AttachTC}; !slices.Contains(ways, c.Attach) {
		errs = append(errs, field.NotSupported(field.NewPath("attach"), c.Attach, ways))
	}
	if d := c.IPAM.RestTime; d.Duration < 0 || d.Duration > maxRestTime {
		errs = append(errs, field.Invalid(field.NewPath("ipam", "restTime"), d.String(), "use a time from 0s to 24h"))
	}
	return append(errs, c.Maps.validate(field.NewPath("maps"))...)
}

func (c *Config) validateNodeName() field.ErrorList {
	p := field.NewPath("nodeName")
	if c.NodeName == "" {
		return field.ErrorList{field.Required(p, "this machine has no host name: set nodeName")}
	}
	if len(validation.IsDNS1123Subdomain(c.NodeName)) > 0 {
		return field.ErrorList{field.Invalid(p, c.NodeName,
			strict.SubdomainRule)}
	}
	return nil
}

func (c *Config) validateKubernetes(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(c.Kubernetes.Servers) > 0 && !c.InCluster() {
		errs = append(errs, field.Required(p.Child("kubeconfig"), "the servers ask for credentials: name the file that has them"))
	}
	for i, server := range c.Kubernetes.Servers {
		u, err := url.Parse(server)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, field.Invalid(p.Child("servers").Index(i), server, "use a URL like https://192.0.2.1:6443"))
		}
	}
	return errs
}

func (c *Config) validateMTU() field.ErrorList {
	least := minMTU4
	for _, p := range c.PodCIDRs {
		if p.Addr().Is6() {
			least = minMTU6
		}
	}
	if c.MTU == 0 || c.MTU >= least && c.MTU <= maxMTU {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("mtu"), c.MTU,
		fmt.Sprintf("use 0 for the MTU of the default route's device, or %d to %d", least, maxMTU))}
}

func (c *Config) validatePaths() field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		path     *field.Path
		value    string
		optional bool
	}{
		{field.NewPath("bpfRoot"), c.BPFRoot, false},
		{field.NewPath("cgroupRoot"), c.CgroupRoot, true},
		{field.NewPath("runDir"), c.RunDir, false},
		{field.NewPath("stateDir"), c.StateDir, false},
		{field.NewPath("intentFile"), c.IntentFile, c.InCluster()},
		{field.NewPath("kubernetes", "kubeconfig"), c.Kubernetes.Kubeconfig, true},
		{field.NewPath("cni", "binDir"), c.CNI.BinDir, !c.CNI.Install},
		{field.NewPath("cni", "confDir"), c.CNI.ConfDir, !c.CNI.Install},
	} {
		switch {
		case f.value == "" && f.optional:
		case f.value == "":
			errs = append(errs, field.Required(f.path, "use an absolute path"))
		case !filepath.IsAbs(f.value):
			errs = append(errs, field.Invalid(f.path, f.value, "use an absolute path"))
		}
	}
	if s := c.APISocket(); len(s) > maxSocketPath {
		errs = append(errs, field.Invalid(field.NewPath("runDir"), c.RunDir,
			fmt.Sprintf("the path of a socket in it would be longer than %d bytes: use a shorter path", maxSocketPath)))
	}
	return errs
}

func (m *Maps) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name    string
		entries uint32
	}{
		{"frontends", m.Frontends},
		{"slots", m.Slots},
		{"backends", m.Backends},
		{"conntrack", m.Conntrack},
		{"fragments", m.Fragments},
	} {
		if f.entries < minEntries || f.entries > maxEntries {
			// field.Error knows no unsigned numbers.
			errs = append(errs, field.Invalid(p.Child(f.name), int64(f.entries),
				fmt.Sprintf("use a number of entries from %d to %d", minEntries, maxEntries)))
		}
	}
	return errs
}
