// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"

	apimux "k8s.io/apiserver/pkg/server/mux"
	"k8s.io/component-base/configz"
	"k8s.io/component-base/metrics/prometheus/slis"
	cmapp "k8s.io/controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

// runControllerManager runs the controllers until ctx ends.
func runControllerManager(ctx context.Context, o *Options, ready func()) error {
	s, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("configure controller-manager: %w", err)
	}
	sets := s.Flags(app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	if err := controllerManagerFlags(o).parse("controllerManager", sets, o.Flags.ControllerManager); err != nil {
		return err
	}
	c, err := s.Config(ctx, app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	if err != nil {
		return fmt.Errorf("configure controller-manager: %w", err)
	}
	cc := c.Complete()

	// Run would serve the metrics of the whole process, so we serve, and it does not.
	m := apimux.NewPathRecorderMux("kube-controller-manager")
	installHealth(m)
	installMetrics(m, ofControllerManager)
	slis.SLIMetrics{}.Install(m)
	configz.InstallHandler(m)
	serving := cc.SecureServing
	cc.SecureServing = nil
	if serving != nil {
		stopped, _, err := serving.Serve(cmapp.BuildHandlerChain(m, &cc.Authorization, &cc.Authentication), 0, ctx.Done())
		if err != nil {
			return fmt.Errorf("serve controller-manager: %w", err)
		}
		defer func() { <-stopped }()
	}
	// A second registration in one process is refused.
	defer configz.Delete(app.ConfigzName)
	ready()
	return app.Run(ctx, cc)
}

func controllerManagerFlags(o *Options) flags {
	pki := o.Layout.PKI
	kubeconfig := o.Layout.Kubeconfig("controller-manager")
	f := flags{
		"kubeconfig":                       kubeconfig,
		"authentication-kubeconfig":        kubeconfig,
		"authorization-kubeconfig":         kubeconfig,
		"bind-address":                     "127.0.0.1",
		"tls-cert-file":                    pki("controller-manager-serving.pem"),
		"tls-private-key-file":             pki("controller-manager-serving.pem"),
		"client-ca-file":                   pki("cluster-ca.crt"),
		"requestheader-client-ca-file":     pki("front-proxy-ca.crt"),
		"requestheader-allowed-names":      "front-proxy-client",
		"root-ca-file":                     pki("cluster-ca.crt"),
		"service-account-private-key-file": pki("service-account.key"),
		"use-service-account-credentials":  "true",
		"cluster-signing-cert-file":        pki("cluster-ca.crt"),
		"cluster-signing-key-file":         pki("cluster-ca.key"),
		"cluster-signing-duration":         o.SigningDuration.String(),
		// Load balancers, routes and instances of a cloud are not ours; tokens that
		// have expired are.
		"controllers":               "*,token-cleaner-controller,-service-lb-controller,-node-route-controller,-cloud-node-lifecycle-controller",
		"allocate-node-cidrs":       "true",
		"cluster-cidr":              join(o.PodCIDRs),
		"service-cluster-ip-range":  join(o.ServiceCIDRs),
		"leader-elect":              "false",
		"profiling":                 "false",
		"controller-start-interval": "0s",
		"concurrent-gc-syncs":       "5",
		// The API server limits by priority and fairness. Upstream's 20 a second make a
		// new cluster wait six seconds for its first service account.
		"kube-api-qps":   "200",
		"kube-api-burst": "400",
	}
	dual := len(o.PodCIDRs) == 2
	for _, p := range o.PodCIDRs {
		mask, family := o.NodeMaskIPv4, "-ipv4"
		if p.Addr().Is6() {
			mask, family = o.NodeMaskIPv6, "-ipv6"
		}
		if !dual { // the flags with a family are for clusters with both
			family = ""
		}
		f["node-cidr-mask-size"+family] = fmt.Sprint(mask)
	}
	return f
}
