// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waggle-net/waggle/datapath/intent"
)

// What a large cluster has.
const (
	benchServices  = 10_000
	benchSlices    = 3 // of a service
	benchEndpoints = 10
)

func benchSlice(svc, i, port int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprintf("service-%d-%d", svc, i),
			Labels:      map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("service-%d", svc)},
			Annotations: map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(port)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for e := range benchEndpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", svc/250, svc%250, i*benchEndpoints+e+1)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "pod"},
			NodeName:   new("node1"),
		})
	}
	return s
}

func benchSource() (*Source, *intent.State) {
	s, state := New(Config{NodeName: "node1"}), intent.NewState()
	for svc := range benchServices {
		s.feed(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("service-%d", svc)},
			Spec: corev1.ServiceSpec{
				ClusterIPs: []string{fmt.Sprintf("172.16.%d.%d", svc/250, svc%250)},
				Ports:      []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
			},
		}, false)
		for i := range benchSlices {
			s.feed(benchSlice(svc, i, 8080), false)
		}
	}
	s.apply(state)
	return s, state
}

// BenchmarkSync measures all of a large cluster becoming known, and what of it
// stays in memory: the stores and the tables.
func BenchmarkSync(b *testing.B) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		s, state := benchSource()
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/1e6, "MB")
		runtime.KeepAlive(s)
		if services, _ := state.Services.Snapshot(); len(services) != benchServices {
			b.Fatalf("%d services", len(services))
		}
		b.StartTimer()
	}
}

// BenchmarkSliceChange measures one slice that changes in a large cluster.
func BenchmarkSliceChange(b *testing.B) {
	s, state := benchSource()
	for port := 0; b.Loop(); port++ {
		s.feed(benchSlice(port%benchServices, 0, 1+port%60_000), false)
		s.apply(state)
	}
}
