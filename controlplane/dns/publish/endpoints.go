// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// reconcile makes the service and the slices what they should be. What fails leaves
// the rest done.
func (p *publisher) reconcile(ctx context.Context) error {
	ours, err := p.reconcileService(ctx)
	errs := []error{err}
	want := map[string]*discoveryv1.EndpointSlice{}
	if ours {
		nodes, err := p.nodes.List(labels.Everything())
		errs = append(errs, err)
		for _, n := range nodes {
			for _, s := range p.nodeSlices(n) {
				want[s.Name] = s
			}
		}
	}
	now, err := p.endpoints.EndpointSlices(Namespace).List(labels.Everything())
	errs = append(errs, err)
	for _, s := range now {
		w, wanted := want[s.Name]
		delete(want, s.Name)
		switch {
		case wanted && s.AddressType == w.AddressType:
			errs = append(errs, p.update(ctx, s, w))
		case wanted || s.Labels[discoveryv1.LabelManagedBy] == Manager && s.Labels[discoveryv1.LabelServiceName] == Name:
			errs = append(errs, p.delete(ctx, s)) // its event leads to the creation of what is wanted
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		_, err := p.Client.DiscoveryV1().EndpointSlices(Namespace).Create(ctx, want[name], metav1.CreateOptions{FieldManager: Manager})
		if apierrors.IsAlreadyExists(err) {
			err = nil // and its event is on the way
		}
		errs = append(errs, wrap("create endpoints", err))
	}
	return errors.Join(errs...)
}

// update writes what differs. Another who wrote meanwhile is seen by the event.
func (p *publisher) update(ctx context.Context, now, want *discoveryv1.EndpointSlice) error {
	next := now.DeepCopy()
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	maps.Copy(next.Labels, want.Labels)
	next.OwnerReferences, next.Endpoints, next.Ports = want.OwnerReferences, want.Endpoints, want.Ports
	if equality.Semantic.DeepEqual(now, next) {
		return nil
	}
	_, err := p.Client.DiscoveryV1().EndpointSlices(Namespace).Update(ctx, next, metav1.UpdateOptions{FieldManager: Manager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		err = nil
	}
	return wrap("update endpoints", err)
}

func (p *publisher) delete(ctx context.Context, s *discoveryv1.EndpointSlice) error {
	err := p.Client.DiscoveryV1().EndpointSlices(Namespace).Delete(ctx, s.Name,
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil
	}
	return wrap("delete endpoints", err)
}

// nodeSlices are a node's endpoints: one slice for each family of the service in which
// the node has an address. With a slice of its own, a node's change is told to others
// as one endpoint, whatever the size of the cluster.
func (p *publisher) nodeSlices(n *corev1.Node) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, service := range p.ServiceIPs {
		family, suffix := discoveryv1.AddressTypeIPv4, "-ipv4"
		if service.Is6() {
			family, suffix = discoveryv1.AddressTypeIPv6, "-ipv6"
		}
		a, ok := internalIP(n, service.Is4())
		if !ok {
			continue
		}
		s := &discoveryv1.EndpointSlice{AddressType: family, Ports: p.ports(), Endpoints: []discoveryv1.Endpoint{endpoint(n, a)}}
		s.Namespace, s.Name = Namespace, sliceName(n.Name, suffix)
		s.Labels = map[string]string{discoveryv1.LabelServiceName: Name, discoveryv1.LabelManagedBy: Manager}
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
		out = append(out, s)
	}
	return out
}

// sliceName is a node's, shortened where a long node name leaves no room.
func sliceName(node, suffix string) string {
	name := Name + "-" + node + suffix
	if len(name) <= validation.DNS1123SubdomainMaxLength {
		return name
	}
	sum := fmt.Sprintf("-%x", sha256.Sum256([]byte(node)))[:17]
	keep := validation.DNS1123SubdomainMaxLength - len(Name) - 1 - len(sum) - len(suffix)
	return Name + "-" + strings.TrimRight(node[:keep], "-.") + sum + suffix
}

func (p *publisher) ports() []discoveryv1.EndpointPort {
	return []discoveryv1.EndpointPort{
		{Name: new("dns"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(p.Port))},
		{Name: new("dns-tcp"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(p.Port))},
	}
}

// endpoint is a node's DNS, meant for the node itself: others take it only where their
// own does not answer.
func endpoint(n *corev1.Node, a netip.Addr) discoveryv1.Endpoint {
	ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	e := discoveryv1.Endpoint{
		Addresses:  []string{a.String()},
		Conditions: discoveryv1.EndpointConditions{Ready: new(ready), Serving: new(ready), Terminating: new(false)},
		NodeName:   new(n.Name),
		Hints:      &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: n.Name}}},
	}
	if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
		e.Zone = new(zone)
		e.Hints.ForZones = []discoveryv1.ForZone{{Name: zone}}
	}
	return e
}

// internalIP is a node's first internal address of a family.
func internalIP(n *corev1.Node, is4 bool) (netip.Addr, bool) {
	for _, address := range n.Status.Addresses {
		a, err := netip.ParseAddr(address.Address)
		if err == nil && address.Type == corev1.NodeInternalIP && a.Is4() == is4 {
			return a, true
		}
	}
	return netip.Addr{}, false
}
