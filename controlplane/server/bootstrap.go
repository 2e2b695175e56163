// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/dynamic"

	"github.com/waggle-net/waggle/controlplane/dns/publish"
	"github.com/waggle-net/waggle/controlplane/pki"
)

// owner is the field manager of what the control plane writes into its own API.
const owner = "waggle-kube"

// bootstrap grants the rights of our own identities, with the API server's own. The
// API server is not ready before it has.
func bootstrap(hook genericapiserver.PostStartHookContext) error {
	client, err := dynamic.NewForConfig(hook.LoopbackClientConfig)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	objects := append(append(bindings(), dataplaneRights()...), publish.Objects()...)
	var last error
	err = wait.PollUntilContextTimeout(hook.Context, 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		last = applyRBAC(ctx, client, objects)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// bindings bind the roles that Kubernetes has to the identities of our certificates.
func bindings() []runtime.Object {
	bind := func(name, role, kind, subject string) runtime.Object {
		return &rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: kind, Name: subject}},
		}
	}
	return []runtime.Object{
		// Not system:masters, which no authorizer can take anything from.
		bind("waggle:cluster-admins", "cluster-admin", rbacv1.GroupKind, pki.AdminsGroup),
		// What the API server may do on kubelets: logs, exec, port-forward.
		bind("waggle:kubelet-clients", "system:kubelet-api-admin", rbacv1.UserKind, pki.KubeletAPIUser),
	}
}

// dataplaneRights are what each node's waggled may do beside what the Node authorizer
// lets it do as its node (its own Node and Pods, all Services): to look, never to
// change anything.
func dataplaneRights() []runtime.Object {
	const name = pki.DataplaneGroup
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
	}
	watch := []string{"get", "list", "watch"}
	return []runtime.Object{
		&rbacv1.ClusterRole{
			TypeMeta:   meta("ClusterRole"),
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: watch},
				{APIGroups: []string{discoveryv1.GroupName}, Resources: []string{"endpointslices"}, Verbs: watch},
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   meta("ClusterRoleBinding"),
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}},
		},
	}
}

// applyRBAC makes the objects as they are to be, and leaves what others added.
func applyRBAC(ctx context.Context, client dynamic.Interface, objects []runtime.Object) error {
	for _, object := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return fmt.Errorf("apply rights: %w", err)
		}
		u := &unstructured.Unstructured{Object: content}
		resource := rbacv1.SchemeGroupVersion.WithResource(strings.ToLower(u.GetKind()) + "s")
		_, err = client.Resource(resource).Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: owner, Force: true})
		if err != nil {
			return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return nil
}
