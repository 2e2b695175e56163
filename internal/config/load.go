// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// Load reads the configuration file, puts the flags that were set over it,
// completes it and validates the result as a whole. The error holds everything
// that is wrong.
//
// The file at DefaultPath may be absent, as flags can say all that is needed;
// another one that was asked for may not. Flags are those of AddFlags; nil
// stands for none.
func Load(path string, flags *pflag.FlagSet) (*Config, error) {
	return loadFile(path, path == DefaultPath, flags)
}

func loadFile(path string, mayBeAbsent bool, flags *pflag.FlagSet) (*Config, error) {
	data, err := os.ReadFile(path)
	source := "config " + path
	switch {
	case errors.Is(err, fs.ErrNotExist) && mayBeAbsent:
		source += " (absent) and flags"
	case err != nil:
		return nil, fmt.Errorf("read config: %w", err)
	}
	c, errs, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	sources, wrong := options.Apply(c, nil, flags)
	errs = append(sources.Repaired(errs), wrong...)
	c.complete(os.Hostname)
	errs = strict.Merge(errs, c.Validate())
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
	if len(c.ClusterCIDRs) == 0 && !c.InCluster() {
		c.ClusterCIDRs = slices.Clone(c.PodCIDRs)
	}
}
