// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// Bounds of what can be configured.
const (
	minQuota, maxQuota       = 64 << 20, 8 << 30 // etcd warns above 8 GiB
	minValidity, maxValidity = 10 * time.Minute, 10 * 365 * 24 * time.Hour
	minRenewBefore           = time.Minute
	minInterval              = time.Minute
)

// Validate returns everything that is wrong with a complete configuration. It does
// not look at the machine: nodeIPs may be empty still.
func (c *Config) Validate() field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, strict.Header(c.APIVersion, APIVersion, c.Kind, Kind)...)
	errs = append(errs, c.validateNodeName()...)
	errs = append(errs, c.validatePaths()...)
	network := c.validateNetwork()
	errs = append(errs, network...)
	errs = append(errs, c.validateDomain()...)
	if !slices.ContainsFunc(network, func(e *field.Error) bool { return strings.HasPrefix(e.Field, servicesPath.String()) }) {
		errs = append(errs, c.validateDNS()...) // else whatever is wrong with the ranges is told twice
	}
	errs = append(errs, c.validateUpstreams()...)
	errs = append(errs, c.validatePorts()...)
	errs = append(errs, c.validateSANs()...)
	errs = append(errs, c.validateRegistries()...)
	errs = append(errs, c.validateDataplane(field.NewPath("dataplane"))...)
	errs = append(errs, c.Kubelet.validate(field.NewPath("kubelet"))...)
	errs = append(errs, c.Components.validate(field.NewPath("components"))...)
	errs = append(errs, c.Etcd.validate(field.NewPath("etcd"))...)
	errs = append(errs, c.Audit.validate(field.NewPath("audit"))...)
	errs = append(errs, c.Certificates.validate(field.NewPath("certificates"))...)
	errs = append(errs, c.Snapshots.validate(field.NewPath("snapshots"))...)
	return append(errs, c.LogLevel.Validate(field.NewPath("logLevel"))...)
}

func (c *Config) validateNodeName() field.ErrorList {
	p := field.NewPath("nodeName")
	if c.NodeName == "" {
		return field.ErrorList{field.Required(p, "this machine has no host name: set nodeName")}
	}
	if len(validation.IsDNS1123Subdomain(c.NodeName)) > 0 {
		return field.ErrorList{field.Invalid(p, c.NodeName, strict.SubdomainRule)}
	}
	return nil
}

func (c *Config) validateDomain() field.ErrorList {
	p := field.NewPath("clusterDomain")
	switch domain := c.ClusterDomain; {
	case domain == "":
		return field.ErrorList{field.Required(p, "use a domain, as in cluster.local")}
	case len(validation.IsDNS1123Subdomain(domain)) == 0:
		return nil
	case len(validation.IsDNS1123Subdomain(strings.TrimSuffix(domain, "."))) == 0:
		return field.ErrorList{field.Invalid(p, domain, "use "+strings.TrimSuffix(domain, ".")+", without the dot at the end")}
	default:
		return field.ErrorList{field.Invalid(p, domain, strict.SubdomainRule)}
	}
}

func (c *Config) validateSANs() field.ErrorList {
	var errs field.ErrorList
	p := field.NewPath("apiserver", "tlsSANs")
	for i, san := range c.APIServer.TLSSANs {
		if a, err := netip.ParseAddr(san); err == nil {
			if err := strict.Address(p.Index(i), a); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		if len(validation.IsDNS1123Subdomain(san)) > 0 && len(validation.IsWildcardDNS1123Subdomain(san)) > 0 {
			errs = append(errs, field.Invalid(p.Index(i), san,
				"use an IP address or a DNS name in lower case, as in api.example.com, without scheme and port"))
		}
	}
	return errs
}

func (e *Etcd) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if profiles := []EtcdProfile{EtcdDefault, EtcdSlowDisk}; !slices.Contains(profiles, e.Profile) {
		errs = append(errs, field.NotSupported(p.Child("profile"), e.Profile, profiles))
	}
	if e.QuotaBytes < minQuota || e.QuotaBytes > maxQuota {
		errs = append(errs, field.Invalid(p.Child("quotaBytes"), e.QuotaBytes.String(),
			fmt.Sprintf("use a size from %s to %s", Bytes(minQuota), Bytes(maxQuota))))
	}
	return errs
}

func (a *Audit) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"maxAgeDays", a.MaxAgeDays, 3650},
		{"maxBackups", a.MaxBackups, 1000},
		{"maxSizeMB", a.MaxSizeMB, 10000},
	} {
		if f.value < 1 || f.value > f.most {
			errs = append(errs, field.Invalid(p.Child(f.name), f.value, fmt.Sprintf("use a number from 1 to %d", f.most)))
		}
	}
	return errs
}

func (c *Certificates) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if v := c.Validity; v.Duration < minValidity || v.Duration > maxValidity {
		errs = append(errs, field.Invalid(p.Child("validity"), v.String(), "use a time from 10m to 87600h"))
	}
	switch r := c.RenewBefore; {
	case r.Duration < minRenewBefore:
		errs = append(errs, field.Invalid(p.Child("renewBefore"), r.String(), "use 1m or more"))
	case r.Duration >= c.Validity.Duration:
		errs = append(errs, field.Invalid(p.Child("renewBefore"), r.String(),
			fmt.Sprintf("a new certificate would be due at once: use less than certificates.validity, %s", c.Validity)))
	}
	return errs
}

func (s *Snapshots) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if d := s.Interval; d.Duration != 0 && d.Duration < minInterval {
		errs = append(errs, field.Invalid(p.Child("interval"), d.String(), "use 1m or more, or 0s for no snapshots"))
	}
	if s.Keep < 1 || s.Keep > 1000 {
		errs = append(errs, field.Invalid(p.Child("keep"), s.Keep,
			"use a number from 1 to 1000; snapshots.interval: 0s takes none"))
	}
	return errs
}
