// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubeletapis "k8s.io/kubelet/pkg/apis"
)

// TestKubeletKeys holds our lists of keys to the kubelet's type.
func TestKubeletKeys(t *testing.T) {
	var want []string
	for f := range reflect.TypeFor[kubeletv1beta1.KubeletConfiguration]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			want = append(want, "apiVersion", "kind") // metav1.TypeMeta
			continue
		}
		want = append(want, name)
	}
	got := slices.Concat(freeKubeletKeys, slices.Collect(maps.Keys(ownedKubeletKeys)))
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-KubeletConfiguration +ours:\n%s", diff)
	}
}

// TestMayLabel compares with what the kubelet accepts from its flags.
func TestMayLabel(t *testing.T) {
	names := append(kubeletapis.KubeletLabels(),
		"a", "example.com/a", "kubernetes.io/a", "k8s.io/a", "a.kubernetes.io/a", "a.k8s.io/a", "xkubernetes.io/a",
		"node.kubernetes.io/a", "x.node.kubernetes.io/a", "kubelet.kubernetes.io/a", "x.kubelet.kubernetes.io/a",
		"node-restriction.kubernetes.io/a", "x.node-restriction.kubernetes.io/a", "node-role.kubernetes.io/control-plane", "kubernetes.io/role")
	for _, name := range names {
		domain, _, _ := strings.Cut(name, "/")
		if !strings.Contains(name, "/") {
			domain = ""
		}
		// As in cmd/kubelet/app/options of Kubernetes, isKubernetesLabel.
		theirs := domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || domain == "k8s.io" || strings.HasSuffix(domain, ".k8s.io")
		if want := !theirs || kubeletapis.IsKubeletLabel(name); mayLabel(name) != want {
			t.Errorf("mayLabel(%s) = %v, the kubelet says %v", name, !want, want)
		}
	}
}

func TestOwnedFlag(t *testing.T) {
	for _, row := range []struct {
		component, name, remedy string
		owned                   bool
	}{
		{ComponentAPIServer, "secure-port", "set apiserver.port", true},
		{ComponentAPIServer, "requestheader-allowed-names", pkiRemedy, true},
		{ComponentAPIServer, "requestheader", "", false},
		{ComponentAPIServer, "feature-gates", "", false},
		{ComponentScheduler, "feature-gates", gatesRemedy, true},
		{ComponentScheduler, "secure-port", portRemedy, true},
		{ComponentControllerManager, "cluster-signing-duration", "set certificates.validity", true},
		{ComponentEtcd, "peer-cert-file", pkiRemedy, true},
		{ComponentEtcd, "heartbeat-interval", "", false},
		{ComponentEtcd, "peer-", pkiRemedy, true},
		{"bananas", "secure-port", "", false},
	} {
		remedy, ok := OwnedFlag(row.component, row.name)
		if ok != row.owned || remedy != row.remedy {
			t.Errorf("OwnedFlag(%s, %s) = %q, %v", row.component, row.name, remedy, ok)
		}
	}
}
