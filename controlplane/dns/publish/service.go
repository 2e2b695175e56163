// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const managedBy = "app.kubernetes.io/managed-by"

// The labels that other software knows cluster DNS by.
var serviceLabels = map[string]string{
	"k8s-app":                       "kube-dns",
	"kubernetes.io/cluster-service": "true",
	"kubernetes.io/name":            "CoreDNS",
	managedBy:                       Manager,
}

// wantService makes a service what it should be, and leaves the rest as it is.
func (p *publisher) wantService(s *corev1.Service) *corev1.Service {
	s = s.DeepCopy()
	s.Namespace, s.Name = Namespace, Name
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	maps.Copy(s.Labels, serviceLabels)
	s.Spec.Type = corev1.ServiceTypeClusterIP
	s.Spec.ClusterIP = p.ServiceIPs[0].String()
	s.Spec.ClusterIPs, s.Spec.IPFamilies = nil, nil
	for _, a := range p.ServiceIPs {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, a.String())
		family := corev1.IPv4Protocol
		if a.Is6() {
			family = corev1.IPv6Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
	s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	if len(p.ServiceIPs) == 2 {
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	}
	// A node's own DNS needs no network; where it does not answer, others do.
	s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameNode)
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyCluster)
	s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
	s.Spec.ExternalIPs = nil
	s.Spec.PublishNotReadyAddresses = false
	s.Spec.Ports = []corev1.ServicePort{
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
		{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
	}
	return s
}

// reconcileService makes the service so, if it is ours. The answer is whether it is.
func (p *publisher) reconcileService(ctx context.Context) (bool, error) {
	api := p.Client.CoreV1().Services(Namespace)
	now, err := p.services.Services(Namespace).Get(Name)
	if apierrors.IsNotFound(err) {
		_, err := api.Create(ctx, p.wantService(&corev1.Service{}), metav1.CreateOptions{FieldManager: Manager})
		if apierrors.IsAlreadyExists(err) {
			err = nil // and its event is on the way
		} else if apierrors.IsInvalid(err) {
			err = fmt.Errorf("%w: has another service the address %s? `kubectl get service -A` shows it", err, p.ServiceIPs[0])
		}
		return true, wrap("create service", err)
	}
	if err != nil {
		return false, wrap("read service", err)
	}
	if !p.ours(now) {
		return false, nil
	}
	want := p.wantService(now)
	switch {
	case equality.Semantic.DeepEqual(now, want):
		return true, nil
	case p.movable(now):
		_, err = api.Update(ctx, want, metav1.UpdateOptions{FieldManager: Manager})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			err = nil // another wrote meanwhile, and its event is on the way
		}
		return true, wrap("update service", err)
	}
	// An address cannot be changed. The event of the deletion leads to the creation.
	p.Log.Warn("cluster DNS service gets other addresses: it is deleted and created again", "from", now.Spec.ClusterIPs, "to", want.Spec.ClusterIPs)
	err = api.Delete(ctx, Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &now.UID}})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		err = nil
	}
	return true, wrap("delete service", err)
}

// movable says whether the wanted addresses can be had by an update: one may be added
// or taken away after the first, and that is all.
func (p *publisher) movable(now *corev1.Service) bool {
	for i := range min(len(now.Spec.ClusterIPs), len(p.ServiceIPs)) {
		if now.Spec.ClusterIPs[i] != p.ServiceIPs[i].String() {
			return false
		}
	}
	return len(now.Spec.ClusterIPs) > 0
}

// ours says whether the service is ours to change, and tells once why not.
func (p *publisher) ours(s *corev1.Service) bool {
	const left = " and left alone; delete it to use the built-in cluster DNS, or turn that off"
	word := ""
	switch {
	case len(s.Spec.Selector) > 0:
		word = "the service kube-system/kube-dns selects pods: it is somebody's own cluster DNS," + left
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		word = "the service kube-system/kube-dns is another name for something else," + left
	case s.Labels[managedBy] != Manager && !p.movable(s):
		word = fmt.Sprintf("the service kube-system/kube-dns has the address %s instead of %s, was not made by %s,", s.Spec.ClusterIP, p.ServiceIPs[0], Manager) + left
	}
	if word != p.said && word != "" {
		p.Log.Warn("cluster DNS is not published", "reason", word)
	}
	p.said = word
	return word == ""
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of cluster DNS: %w", doing, err)
}
