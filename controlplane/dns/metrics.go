// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Gatherer gathers CoreDNS's metrics (coredns_...) and no others. CoreDNS registers
// them with the process's default registry when the program starts: a handler for
// these beside one for that registry would serve them twice.
func Gatherer() prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := prometheus.DefaultGatherer.Gather()
		var own []*dto.MetricFamily
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), plugin.Namespace+"_") {
				own = append(own, f)
			}
		}
		return own, err
	})
}
