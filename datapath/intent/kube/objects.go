// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waggle-net/waggle/datapath/intent"
)

// object is what is kept of every object: a store needs no more of it.
type object struct {
	name intent.Name
	// problem is what of it could not be understood, and was left out.
	problem error
}

// GetObjectMeta is how a store learns the name.
func (o *object) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: o.name.Namespace, Name: o.name.Name}
}

func (o *object) base() *object { return o }

// kept is one of the types below, always a pointer.
type kept interface{ base() *object }

type node struct {
	object
	intent intent.Node
}

type pod struct {
	object
	intent   intent.Pod
	finished bool
}

// service has the service without its backends. It has no addresses where the
// datapath has no part in it.
type service struct {
	object
	intent intent.Service
}

// slice is some of the endpoints of a service.
type slice struct {
	object
	service   string
	ports     []slicePort
	endpoints []endpoint
}

// of is the service of a slice, which has no name where the slice has none.
func (s *slice) of() intent.Name {
	return intent.Name{Namespace: s.name.Namespace, Name: s.service}
}

type slicePort struct {
	name     string
	protocol intent.Protocol
	port     uint16
}

type endpoint struct {
	address netip.Addr
	ready   bool
}

// convert makes of an object of the API what is kept of it. It is given some
// objects twice, and then returns what it made.
func convert(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Node:
		return convertNode(o), nil
	case *corev1.Pod:
		return convertPod(o), nil
	case *corev1.Service:
		return convertService(o), nil
	case *discoveryv1.EndpointSlice:
		return convertSlice(o), nil
	}
	return obj, nil
}
