// SPDX-License-Identifier: Apache-2.0

package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// What to select of the services and endpoint slices, as kube-proxy does (1.36):
// not the services that another proxy says it serves, and not what is headless,
// of which there can be much, and which changes with every pod. The controller
// of the slices labels those of a headless service.
const (
	ServiceLabels = "!service.kubernetes.io/service-proxy-name"
	ServiceFields = "spec.clusterIP!=" + corev1.ClusterIPNone
	SliceLabels   = "!" + corev1.IsHeadlessService
)

// PodSelector is the field selector of the pods of a node. Those of other nodes
// nobody here needs, and each daemon that watched them would cost the API server
// every change of every pod of the cluster.
func PodSelector(node string) string {
	return fields.OneTermEqualSelector("spec.nodeName", node).String()
}
