// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// objects are the manifests, by kind and name.
func objects(t *testing.T) map[string]metav1.Object {
	t.Helper()
	all := make(map[string]metav1.Object)
	for document := range strings.SplitSeq(string(Manifests()), "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		var object metav1.Object
		switch kind.GroupVersionKind() {
		case corev1.SchemeGroupVersion.WithKind("Namespace"):
			object = &corev1.Namespace{}
		case corev1.SchemeGroupVersion.WithKind("Service"):
			object = &corev1.Service{}
		case appsv1.SchemeGroupVersion.WithKind("Deployment"):
			object = &appsv1.Deployment{}
		default:
			t.Fatalf("a kind that this test does not know: %v", kind)
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		all[kind.Kind+" "+object.GetName()] = object
	}
	return all
}

func TestManifests(t *testing.T) {
	all := objects(t)
	want := []string{
		"Deployment " + Guestbook, "Deployment " + Redis, "Namespace " + Namespace,
		"Service " + Guestbook, "Service " + Redis,
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(all))); diff != "" {
		t.Errorf("objects: -want +got:\n%s", diff)
	}
	for name, image := range map[string]string{Guestbook: GuestbookImage, Redis: RedisImage} {
		deployment := all["Deployment "+name].(*appsv1.Deployment)
		service := all["Service "+name].(*corev1.Service)
		for _, o := range []metav1.Object{deployment, service} {
			if o.GetNamespace() != Namespace {
				t.Errorf("%s is in the namespace %q, want %q", o.GetName(), o.GetNamespace(), Namespace)
			}
		}
		pod := deployment.Spec.Template
		if got := pod.Spec.Containers[0].Image; got != image {
			t.Errorf("%s runs %q, want %q", name, got, image)
		}
		if err := selects(deployment, service); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := restricted(pod.Spec); err != nil {
			t.Errorf("%s does not meet the restricted profile, which its namespace enforces: %v", name, err)
		}
		if got := service.Spec.IPFamilyPolicy; got == nil || *got != corev1.IPFamilyPolicyPreferDualStack {
			t.Errorf("%s: ipFamilyPolicy is %v", name, got)
		}
	}
	web := all["Service "+Guestbook].(*corev1.Service)
	if got := web.Spec.Ports[0].NodePort; got != NodePort || web.Spec.Type != corev1.ServiceTypeNodePort {
		t.Errorf("the page is at port %d of the nodes as a %s, want %d", got, web.Spec.Type, NodePort)
	}
}

// selects says whether a service finds the pods of a deployment, and a port of theirs.
func selects(d *appsv1.Deployment, s *corev1.Service) error {
	pod := d.Spec.Template
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return err
	}
	if got := labels.Set(pod.Labels); !selector.Matches(got) || !labels.SelectorFromSet(s.Spec.Selector).Matches(got) {
		return fmt.Errorf("labels %v: want them to match %v and %v", got, selector, s.Spec.Selector)
	}
	want := s.Spec.Ports[0].TargetPort.String()
	if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == want }) {
		return fmt.Errorf("no port %q in %v", want, pod.Spec.Containers[0].Ports)
	}
	return nil
}

// restricted is the profile of Kubernetes' Pod Security Standards, as far as it asks
// for something, and two habits of our own.
func restricted(pod corev1.PodSpec) error {
	all, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	switch {
	case all == nil || c == nil:
		return fmt.Errorf("no security context")
	case all.RunAsNonRoot == nil || !*all.RunAsNonRoot || all.RunAsUser == nil || *all.RunAsUser == 0:
		return fmt.Errorf("it may run as root")
	case all.SeccompProfile == nil || all.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		return fmt.Errorf("it may use any system call")
	case c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation:
		return fmt.Errorf("it may gain privileges")
	case c.Capabilities == nil || !slices.Contains(c.Capabilities.Drop, "ALL"):
		return fmt.Errorf("it keeps capabilities")
	case c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem:
		return fmt.Errorf("it may write into its image")
	case pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken:
		return fmt.Errorf("it has a token for the API server, which it does not ask")
	}
	return nil
}

// A rolling update loses no request if a replica serves on until others have learned of
// its end, and is not killed in the middle of that.
func TestManifestsLetReplicasDrain(t *testing.T) {
	d := objects(t)["Deployment "+Guestbook].(*appsv1.Deployment)
	update := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || update.MaxUnavailable.IntValue() != 0 || update.MaxSurge.IntValue() < 1 {
		t.Errorf("an update is %+v: want a new replica before an old one goes", d.Spec.Strategy)
	}
	if *d.Spec.Replicas < 2 {
		t.Errorf("replicas: %d", *d.Spec.Replicas)
	}
	pod := d.Spec.Template.Spec
	var takes int64
	for _, arg := range pod.Containers[0].Args {
		for _, flag := range []string{"--drain=", "--patience="} {
			if value, ok := strings.CutPrefix(arg, flag); ok {
				var seconds int64
				if _, err := fmt.Sscanf(value, "%ds", &seconds); err != nil {
					t.Fatalf("%s: %v", arg, err)
				}
				takes += seconds
			}
		}
	}
	if grace := *pod.TerminationGracePeriodSeconds; takes == 0 || takes >= grace {
		t.Errorf("the program takes up to %d s to end, and is killed after %d s", takes, grace)
	}
	if probe := pod.Containers[0].ReadinessProbe; probe == nil || probe.HTTPGet.Path != "/readyz" {
		t.Errorf("readiness is %v", probe)
	}
}
