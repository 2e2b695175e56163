// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"

	genericfilters "k8s.io/apiserver/pkg/endpoints/filters"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	apimux "k8s.io/apiserver/pkg/server/mux"
	"k8s.io/component-base/configz"
	"k8s.io/component-base/metrics/prometheus/slis"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	schedulerconfig "k8s.io/kubernetes/cmd/kube-scheduler/app/config"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// schedulerConfigz is the name that the scheduler registers its configuration under.
const schedulerConfigz = "componentconfig"

// runScheduler runs the scheduler until ctx ends.
func runScheduler(ctx context.Context, o *Options, ready func()) error {
	s := options.NewOptions()
	if err := schedulerFlags(o).parse("scheduler", *s.Flags, o.Flags.Scheduler); err != nil {
		return err
	}
	cc, scheduler, err := app.Setup(ctx, s)
	if err != nil {
		return fmt.Errorf("configure scheduler: %w", err)
	}
	if err := serveScheduler(ctx, cc); err != nil {
		return err
	}
	defer configz.Delete(schedulerConfigz)
	ready()
	err = app.Run(ctx, cc, scheduler)
	if ctx.Err() != nil {
		return nil // it always returns an error, also when it was told to end
	}
	return err
}

// serveScheduler serves health and the scheduler's own metrics. Run would serve the
// metrics of the whole process.
func serveScheduler(ctx context.Context, cc *schedulerconfig.CompletedConfig) error {
	serving := cc.SecureServing
	cc.SecureServing = nil
	if serving == nil {
		return nil
	}
	m := apimux.NewPathRecorderMux("kube-scheduler")
	installHealth(m)
	installMetrics(m, ofScheduler)
	slis.SLIMetrics{}.Install(m)
	configz.InstallHandler(m)
	handler := genericfilters.WithAuthorization(m, cc.Authorization.Authorizer, legacyscheme.Codecs)
	handler = genericfilters.WithAuthentication(handler, cc.Authentication.Authenticator, genericfilters.Unauthorized(legacyscheme.Codecs), nil, nil)
	handler = genericfilters.WithRequestInfo(handler, &apirequest.RequestInfoFactory{})
	if _, _, err := serving.Serve(handler, 0, ctx.Done()); err != nil {
		return fmt.Errorf("serve scheduler: %w", err)
	}
	return nil
}

func schedulerFlags(o *Options) flags {
	pki := o.Layout.PKI
	kubeconfig := o.Layout.Kubeconfig("scheduler")
	return flags{
		"kubeconfig":                   kubeconfig,
		"authentication-kubeconfig":    kubeconfig,
		"authorization-kubeconfig":     kubeconfig,
		"bind-address":                 "127.0.0.1",
		"tls-cert-file":                pki("scheduler-serving.pem"),
		"tls-private-key-file":         pki("scheduler-serving.pem"),
		"client-ca-file":               pki("cluster-ca.crt"),
		"requestheader-client-ca-file": pki("front-proxy-ca.crt"),
		"requestheader-allowed-names":  "front-proxy-client",
		"leader-elect":                 "false",
		"profiling":                    "false",
	}
}
