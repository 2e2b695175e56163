// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/internal/config/strict"
)

// Load reads the configuration file, puts the environment and then the flags over
// it, completes it, validates the result as a whole and looks for the files that
// it names. The error holds everything that is wrong.
//
// Which file it is, --config says, or else WAGGLE_CONFIG. Only the default one may
// be absent. Flags are those of AddFlags, and environ is as in os.Environ; nil
// stands for none of them.
func Load(flags *pflag.FlagSet, environ []string) (*Config, error) {
	path := configPath(flags, environ)
	return load(path, path == layout.DefaultConfig, flags, environ, os.Hostname)
}

func configPath(flags *pflag.FlagSet, environ []string) string {
	if flags != nil {
		if f := flags.Lookup(configFlag); f != nil && f.Changed {
			return f.Value.String()
		}
	}
	path := layout.DefaultConfig
	for _, entry := range environ {
		if text, ok := strings.CutPrefix(entry, configEnv+"="); ok && text != "" {
			path = text
		}
	}
	return path
}

func load(path string, mayBeAbsent bool, flags *pflag.FlagSet, environ []string, hostname func() (string, error)) (*Config, error) {
	data, err := os.ReadFile(path)
	source := "config " + path
	switch {
	case errors.Is(err, fs.ErrNotExist) && mayBeAbsent:
		source += " (absent), environment and flags"
	case err != nil:
		return nil, fmt.Errorf("read config: %w", err)
	}
	c, errs, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	// WAGGLE_CONFIG is a name of ours, though not of a field.
	environ = slices.DeleteFunc(slices.Clone(environ), func(e string) bool { return strings.HasPrefix(e, configEnv+"=") })
	sources, wrong := options.Apply(c, environ, flags)
	sources.NameFile(strict.Keys(data))
	errs = append(sources.Repaired(errs), wrong...)
	c.complete(hostname)
	errs = strict.Merge(errs, c.Validate())
	if sources.FromFile("containerRuntime.registries") {
		errs = append(errs, c.checkOwnMode(path)...)
	}
	errs = strict.Merge(errs, c.checkFiles())
	sources.Attribute(errs)
	if err := strict.Err(errs); err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	return c, nil
}

// parse decodes a file over the defaults, nil for no file. The list is of what
// could not be read; validation is yet to come.
func parse(data []byte) (*Config, field.ErrorList, error) {
	c := Default()
	if data != nil { // then it must say what it is
		c.APIVersion, c.Kind = "", ""
	}
	errs, err := strict.Decode(data, c)
	if err != nil {
		return nil, nil, err
	}
	return c, errs, nil
}

// complete fills in the defaults that depend on the machine and on other fields.
func (c *Config) complete(hostname func() (string, error)) {
	if c.NodeName == "" {
		// Without a host name, validation asks for a node name.
		if name, err := hostname(); err == nil {
			c.NodeName = strings.ToLower(name)
		}
	}
	c.completeCIDRs()
	if len(c.DNS.Addresses) == 0 {
		c.DNS.Addresses = defaultDNS(c.ServiceCIDRs)
	}
	if c.Audit.Path == "" {
		c.Audit.Path = c.Layout().Log("audit")
	}
	if c.Snapshots.Dir == "" {
		c.Snapshots.Dir = c.Layout().SnapshotsDir()
	}
}

// completeCIDRs gives ranges that are the default the families, and their order,
// of what is not.
func (c *Config) completeCIDRs() {
	pods, services := DefaultPodCIDRs(), DefaultServiceCIDRs()
	ownPods := len(c.PodCIDRs) > 0 && !slices.Equal(c.PodCIDRs, pods)
	ownServices := len(c.ServiceCIDRs) > 0 && !slices.Equal(c.ServiceCIDRs, services)
	families := []Family{IPv4, IPv6}
	switch {
	case ownPods:
		families = prefixFamilies(c.PodCIDRs)
	case ownServices:
		families = prefixFamilies(c.ServiceCIDRs)
	case len(c.NodeIPs) > 0:
		families = addrFamilies(c.NodeIPs)
	}
	if len(families) == 0 { // nothing there could be read, which is told already
		families = []Family{IPv4, IPv6}
	}
	if !ownPods {
		c.PodCIDRs = ofFamilies(pods, families)
	}
	if !ownServices {
		c.ServiceCIDRs = ofFamilies(services, families)
	}
}

// defaultDNS is the tenth address of each range that has one, as everywhere in
// Kubernetes.
func defaultDNS(services []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, cidr := range services {
		if a := nth(cidr, 10); strict.Usable(cidr) && cidr.Contains(a) {
			out = append(out, a)
		}
	}
	return out
}

// nth is the address n after the first of a range.
func nth(cidr netip.Prefix, n int) netip.Addr {
	a := cidr.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}
