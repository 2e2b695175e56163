// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/healthz"
	apimux "k8s.io/apiserver/pkg/server/mux"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// installHealth answers the three paths of health on a component's own port.
func installHealth(m *apimux.PathRecorderMux) {
	healthz.InstallHandler(m)
	healthz.InstallLivezHandler(m)
	healthz.InstallReadyzHandler(m)
}

// awaitPath asks the API server for a path until it answers 200. It ends with ctx,
// or with what ended the API server.
func awaitPath(ctx context.Context, loopback *rest.Config, path string, ended <-chan error) error {
	client, err := discovery.NewDiscoveryClientForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("apiserver ended: %w", err)
		default:
		}
		_, last = client.RESTClient().Get().AbsPath(path).DoRaw(ctx)
		return last == nil, nil
	})
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), last)
	}
	return err
}
