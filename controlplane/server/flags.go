// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
)

// flags are a component's flags by name without dashes.
type flags map[string]string

// parse sets flags on the sets of a component, ours first and the extra ones of the
// configuration over them. An extra flag that the component does not have is an
// error that names it.
func (f flags) parse(component string, sets cliflag.NamedFlagSets, extra map[string]string) error {
	all := pflag.NewFlagSet(component, pflag.ContinueOnError)
	all.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, name := range sets.Order {
		all.AddFlagSet(sets.FlagSets[name])
	}
	merged := maps.Clone(f)
	maps.Copy(merged, extra)
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		if all.Lookup(name) == nil {
			return fmt.Errorf("components.%s: %s has no flag --%s", component, component, name)
		}
		if err := all.Set(name, merged[name]); err != nil {
			return fmt.Errorf("components.%s: set --%s: %w", component, name, err)
		}
	}
	return nil
}
