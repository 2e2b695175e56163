// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
)

// option is a field of the configuration that has a flag.
type option struct {
	field string            // its path in the file
	unit  string            // what the help shows for the value
	usage string            // what the help says
	ptr   func(*Config) any // where it is
}

var options = []option{
	{"nodeName", "name", "this node's name in the cluster (default: the host name)", func(c *Config) any { return &c.NodeName }},
	{"podCIDRs", "cidrs", "ranges of this node's pods, at most one a family", func(c *Config) any { return &c.PodCIDRs }},
	{"clusterCIDRs", "cidrs", "ranges of all pods of the cluster (default: the pod CIDRs)", func(c *Config) any { return &c.ClusterCIDRs }},
	{"masquerade", "", "give packets of pods to the world the node's address", func(c *Config) any { return &c.Masquerade }},
	{"masqueradeExclusions", "cidrs", "ranges that see the addresses of pods nevertheless", func(c *Config) any { return &c.MasqueradeExclusions }},
	{"mtu", "bytes", "MTU of the pods' devices (default: that of the default route's device)", func(c *Config) any { return &c.MTU }},
	{"bpfRoot", "dir", "where a bpf file system is mounted", func(c *Config) any { return &c.BPFRoot }},
	{"cgroupRoot", "dir", "cgroup2 directory of the socket programs (default: where cgroup2 is mounted)", func(c *Config) any { return &c.CgroupRoot }},
	{"runDir", "dir", "sockets, and what need not survive a reboot", func(c *Config) any { return &c.RunDir }},
	{"stateDir", "dir", "what must survive a reboot", func(c *Config) any { return &c.StateDir }},
	{"intentFile", "file", "nodes and services", func(c *Config) any { return &c.IntentFile }},
	{"logLevel", "level", "debug, info, warn or error", func(c *Config) any { return &c.LogLevel }},
	{"ipam.restTime", "duration", "how long a released address is not given to another pod", func(c *Config) any { return &c.IPAM.RestTime }},
	{"attach", "how", "how programs are attached to devices: auto, tcx or tc", func(c *Config) any { return &c.Attach }},
	{"maps.frontends", "entries", "size of the table of service addresses and ports", func(c *Config) any { return &c.Maps.Frontends }},
	{"maps.slots", "entries", "size of the table of backend slots", func(c *Config) any { return &c.Maps.Slots }},
	{"maps.backends", "entries", "size of the table of backends", func(c *Config) any { return &c.Maps.Backends }},
	{"maps.conntrack", "entries", "size of the table of flows that need state", func(c *Config) any { return &c.Maps.Conntrack }},
	{"maps.fragments", "entries", "size of the table of fragmented packets", func(c *Config) any { return &c.Maps.Fragments }},
	{"cni.install", "", "put the CNI plugin and its configuration in place", func(c *Config) any { return &c.CNI.Install }},
	{"cni.binDir", "dir", "where the container runtime looks for plugins", func(c *Config) any { return &c.CNI.BinDir }},
	{"cni.confDir", "dir", "where the container runtime looks for network configuration", func(c *Config) any { return &c.CNI.ConfDir }},
}

// AddFlags adds a flag for each field to flags, named after it in kebab case:
// ipam.restTime is --ipam-rest-time. A flag that is set wins over the file; a
// list replaces the list of the file.
func AddFlags(flags *pflag.FlagSet) {
	held := Default()
	for _, o := range options {
		f := flags.VarPF(&value{option: o, held: held}, FlagName(o.field), "", o.usage)
		if _, ok := o.ptr(held).(*bool); ok {
			f.NoOptDefVal = "true"
		}
	}
}

// FlagName is the name of the flag for a field of the file.
func FlagName(path string) string {
	// CIDRs is one word; its capitals are not its letters' fault.
	path = strings.ReplaceAll(path, "CIDRs", "Cidrs")
	var b strings.Builder
	for _, r := range path {
		switch {
		case r == '.':
			b.WriteByte('-')
		case unicode.IsUpper(r):
			b.WriteByte('-')
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// applyFlags copies the fields whose flags were set to c, and returns their
// names: flag by field.
func applyFlags(flags *pflag.FlagSet, c *Config) map[string]string {
	set := map[string]string{}
	if flags == nil {
		return set
	}
	flags.Visit(func(f *pflag.Flag) {
		v, ok := f.Value.(*value)
		if !ok { // somebody else's flag
			return
		}
		reflect.ValueOf(v.ptr(c)).Elem().Set(reflect.ValueOf(v.ptr(v.held)).Elem())
		set[v.field] = f.Name
	})
	return set
}

// value is the pflag.Value of an option. It reads text into a configuration
// that holds nothing but what flags said.
type value struct {
	option
	held *Config
	set  bool
}

// Type is what the help shows for the value.
func (v *value) Type() string {
	if v.unit == "" {
		return "bool" // pflag knows the name: it shows no value then
	}
	return v.unit
}

// String is the value as text: the default, before the flag is set.
func (v *value) String() string {
	if v.held == nil { // pflag asks a zero value for its text
		return ""
	}
	switch p := v.ptr(v.held).(type) {
	case *[]netip.Prefix:
		texts := make([]string, len(*p))
		for i, prefix := range *p {
			texts[i] = prefix.String()
		}
		return strings.Join(texts, ",")
	case *int:
		if *p == 0 {
			return "" // the usage says what zero stands for
		}
	}
	return fmt.Sprint(reflect.ValueOf(v.ptr(v.held)).Elem().Interface())
}

// Set reads the value. A list adds to what the same flag said before.
func (v *value) Set(s string) error {
	first := !v.set
	v.set = true
	switch p := v.ptr(v.held).(type) {
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(s))
	case *string:
		*p = s
	case *LogLevel:
		*p = LogLevel(s)
	case *Attach:
		*p = Attach(s)
	case *bool:
		return parse1(p, s, strconv.ParseBool, "use true or false")
	case *int:
		return parse1(p, s, strconv.Atoi, "use a whole number")
	case *uint32:
		return parse1(p, s, parseUint32, "use a whole number from 0 to 4294967295")
	case *[]netip.Prefix:
		if first {
			*p = nil
		}
		return addPrefixes(p, s)
	default:
		return fmt.Errorf("no flag for a %T", p)
	}
	return nil
}

func parse1[T any](p *T, s string, parse func(string) (T, error), remedy string) error {
	v, err := parse(s)
	if err != nil {
		return fmt.Errorf("%s", remedy)
	}
	*p = v
	return nil
}

func parseUint32(s string) (uint32, error) {
	u, err := strconv.ParseUint(s, 10, 32)
	return uint32(u), err
}

func addPrefixes(p *[]netip.Prefix, s string) error {
	for text := range strings.SplitSeq(s, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue // an empty list is how a flag clears that of the file
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("%q is not a CIDR: write it as 10.244.1.0/24 or fd00:10:244:1::/64", text)
		}
		*p = append(*p, prefix)
	}
	return nil
}
