// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/waggle-net/waggle/controlplane/pki"
)

// owner is the field manager of what the control plane writes into its own API.
const owner = "waggle-kube"

// bootstrapHook grants the rights of our own identities. The API server is not ready
// before it has.
func bootstrapHook(_ *Options) genericapiserver.PostStartHookFunc {
	return func(hook genericapiserver.PostStartHookContext) error {
		client, err := kubernetes.NewForConfig(hook.LoopbackClientConfig)
		if err != nil {
			return fmt.Errorf("make loopback client: %w", err)
		}
		var last error
		err = wait.PollUntilContextTimeout(hook.Context, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			last = grant(ctx, client)
			return last == nil, nil
		})
		return errors.Join(err, last)
	}
}

// grant binds the roles that Kubernetes has to the identities of our certificates.
func grant(ctx context.Context, client kubernetes.Interface) error {
	bindings := []struct{ name, role, kind, subject string }{
		// Not system:masters, which no authorizer can take anything from.
		{"waggle:cluster-admins", "cluster-admin", rbacv1.GroupKind, pki.AdminsGroup},
		// What the API server may do on kubelets: logs, exec, port-forward.
		{"waggle:kubelet-clients", "system:kubelet-api-admin", rbacv1.UserKind, pki.KubeletAPIUser},
	}
	for _, b := range bindings {
		want := rbacapply.ClusterRoleBinding(b.name).
			WithRoleRef(rbacapply.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(b.role)).
			WithSubjects(rbacapply.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(b.kind).WithName(b.subject))
		_, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, want, metav1.ApplyOptions{FieldManager: owner, Force: true})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("bind %s to %s: %w", b.subject, b.role, err)
		}
	}
	return nil
}
