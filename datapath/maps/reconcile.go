// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
)

// Difference counts what Reconcile changed.
type Difference struct {
	Updated, Deleted int
}

// Reconcile makes a table hold exactly the desired entries. It writes before it
// deletes, changes nothing that is right already, and carries on past a failure:
// one entry that does not fit leaves the rest programmed.
func Reconcile[K, V comparable](t Table[K, V], desired map[K]V) (d Difference, err error) {
	var errs []error
	var stale []K
	present := make(map[K]V)
	walk, walkErr := t.All()
	for k, v := range walk {
		present[k] = v
		if _, ok := desired[k]; !ok {
			stale = append(stale, k)
		}
	}
	errs = append(errs, walkErr())
	for k, v := range desired {
		if have, ok := present[k]; ok && have == v {
			continue
		}
		if err := t.Update(k, v); err != nil {
			errs = append(errs, err)
			continue
		}
		d.Updated++
	}
	for _, k := range stale {
		if err := t.Delete(k); err != nil {
			errs = append(errs, err)
			continue
		}
		d.Deleted++
	}
	return d, errors.Join(errs...)
}
