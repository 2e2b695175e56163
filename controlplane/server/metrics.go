// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/component-base/metrics/legacyregistry"
)

// The components share the process's registry, and upstream serves all of it on each
// of their ports: whoever scrapes the ports as usual stores everything three times.
// Here a family is served by one component: what is named after the scheduler or a
// controller by those, everything else, and what is of the process as a whole, by
// the API server. etcd has a registry and a port of its own.

// scope is whether a component serves a family of metrics.
type scope func(family string) bool

// controllerFamilies are the prefixes of what the controller-manager's controllers
// register (v1.36).
var controllerFamilies = []string{
	"attach_detach_controller_", "attachdetach_controller_", "cronjob_controller_", "device_taint_eviction_controller_",
	"endpoint_slice_controller_", "endpoint_slice_mirroring_controller_", "ephemeral_volume_controller_",
	"garbagecollector_controller_", "horizontal_pod_autoscaler_controller_", "job_controller_", "node_collector_",
	"node_controller_", "node_ipam_controller_", "node_lifecycle_controller_", "persistentvolume_protection_controller_",
	"pod_gc_collector_", "pv_collector_", "replicaset_controller_", "resourceclaim_controller_", "retroactive_storageclass_",
	"root_ca_cert_publisher_", "running_managed_controllers", "service_controller_", "serviceaccount_token_",
	"statefulset_controller_", "storage_count_attachable_volumes_in_use", "taint_eviction_controller_",
	"ttl_after_finished_controller_", "validating_admission_policy_status_controller_", "volume_operation_",
}

func ofScheduler(family string) bool { return strings.HasPrefix(family, "scheduler_") }

func ofControllerManager(family string) bool {
	return slices.ContainsFunc(controllerFamilies, func(prefix string) bool { return strings.HasPrefix(family, prefix) })
}

func ofAPIServer(family string) bool { return !ofScheduler(family) && !ofControllerManager(family) }

// gather is what of the process's registry is of a component.
func (s scope) gather() ([]*dto.MetricFamily, error) {
	all, err := legacyregistry.DefaultGatherer.Gather()
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !s(f.GetName()) }), err
}

// mux is what metrics are installed on.
type mux interface {
	Handle(path string, h http.Handler)
}

func installMetrics(m mux, s scope) {
	m.Handle("/metrics", promhttp.HandlerFor(prometheus.GathererFunc(s.gather), promhttp.HandlerOpts{}))
}
