// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"strconv"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	apimux "k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/metrics/prometheus/slis"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/waggle-net/waggle/controlplane/snapshot"
)

// apiServer is the API server, ready to run.
type apiServer struct {
	aggregator *aggregator.APIAggregator
	// loopback is a client configuration of the highest rights, for what must exist
	// before anybody else has any.
	loopback *rest.Config
}

func newAPIServer(ctx context.Context, o *Options, early []*earlyHook) (*apiServer, error) {
	s := options.NewServerRunOptions()
	if err := apiServerFlags(o).parse("apiserver", s.Flags(), o.Flags.APIServer); err != nil {
		return nil, err
	}
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, fmt.Errorf("configure apiserver: %w", err)
	}
	completed, err := s.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("configure apiserver: %w", err)
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return nil, fmt.Errorf("configure apiserver: %w", utilerrors.NewAggregate(errs))
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, fmt.Errorf("configure apiserver: %w", err)
	}
	generic := config.KubeAPIs.ControlPlane.Generic
	// The registry of metrics belongs to the process: each component serves its own
	// families, in installMetrics.
	generic.EnableMetrics = false
	config.ApiExtensions.GenericConfig.EnableMetrics = false
	config.Aggregator.GenericConfig.EnableMetrics = false
	if err := generic.AddPostStartHook("waggle-kube/bootstrap", bootstrap); err != nil {
		return nil, fmt.Errorf("configure apiserver: %w", err)
	}
	chain, err := makeChain(config, early)
	if err != nil {
		return nil, fmt.Errorf("make apiserver: %w", err)
	}
	// Registers the API server's families, on a mux that nobody is served from.
	routes.DefaultMetrics{}.Install(apimux.NewPathRecorderMux("unused"))
	m := chain.GenericAPIServer.Handler.NonGoRestfulMux
	installMetrics(m, ofAPIServer)
	slis.SLIMetrics{}.Install(m)
	return &apiServer{aggregator: chain, loopback: generic.LoopbackClientConfig}, nil
}

// makeChain makes the API servers that are one: of extensions, of Kubernetes, and the
// aggregator ahead of them. It has the early hooks in place of those of the same names.
func makeChain(config *app.Config, early []*earlyHook) (*aggregator.APIAggregator, error) {
	complete, err := config.Complete()
	if err != nil {
		return nil, err
	}
	disabled := config.KubeAPIs.ControlPlane.Generic.DisabledPostStartHooks // the map is that of all of them
	for _, h := range early {
		disabled.Insert(h.name)
	}
	chain, err := app.CreateServerChain(complete)
	if err != nil {
		return nil, err
	}
	for _, h := range early {
		disabled.Delete(h.name)
		if err := chain.GenericAPIServer.AddPostStartHook(h.name, h.finish); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

// run serves until ctx ends, and then until requests under way have been answered.
func (a *apiServer) run(ctx context.Context) error {
	prepared, err := a.aggregator.PrepareRun()
	if err != nil {
		return fmt.Errorf("prepare apiserver: %w", err)
	}
	return prepared.Run(ctx)
}

func apiServerFlags(o *Options) flags {
	pki := o.Layout.PKI
	f := flags{
		"etcd-servers":  snapshot.EtcdURL,
		"etcd-cafile":   pki("etcd-ca.crt"),
		"etcd-certfile": pki("apiserver-etcd-client.pem"),
		"etcd-keyfile":  pki("apiserver-etcd-client.pem"),

		"bind-address":         bindAddress(o),
		"secure-port":          strconv.Itoa(int(o.Port)),
		"advertise-address":    o.primary().String(),
		"tls-cert-file":        pki("apiserver.pem"),
		"tls-private-key-file": pki("apiserver.pem"),
		"client-ca-file":       pki("cluster-ca.crt"),

		"kubelet-certificate-authority":   pki("cluster-ca.crt"),
		"kubelet-client-certificate":      pki("apiserver-kubelet-client.pem"),
		"kubelet-client-key":              pki("apiserver-kubelet-client.pem"),
		"kubelet-preferred-address-types": "InternalIP,Hostname",

		"requestheader-client-ca-file":       pki("front-proxy-ca.crt"),
		"requestheader-allowed-names":        "front-proxy-client",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"proxy-client-cert-file":             pki("front-proxy-client.pem"),
		"proxy-client-key-file":              pki("front-proxy-client.pem"),

		"service-account-issuer":           "https://kubernetes.default.svc." + o.Domain,
		"service-account-key-file":         pki("service-account.key"),
		"service-account-signing-key-file": pki("service-account.key"),

		"service-cluster-ip-range": join(o.ServiceCIDRs),
		"service-node-port-range":  o.NodePorts,

		"authentication-config":       o.Layout.Generated(authenticationFile),
		"authorization-mode":          "Node,RBAC",
		"enable-admission-plugins":    "NodeRestriction",
		"enable-bootstrap-token-auth": "true",
		"allow-privileged":            "true",
		"profiling":                   "false",

		"encryption-provider-config":                  o.Layout.EncryptionConfig(),
		"encryption-provider-config-automatic-reload": "true",

		// Watches never end by themselves: without this, stopping waits a minute for
		// them. They are told to reconnect, which is what they do.
		"shutdown-watch-termination-grace-period": "1s",
	}
	if a := o.Audit; a != nil {
		f["audit-log-path"] = a.Path
		f["audit-log-maxage"] = strconv.Itoa(a.MaxAge)
		f["audit-log-maxbackup"] = strconv.Itoa(a.MaxBackups)
		f["audit-log-maxsize"] = strconv.Itoa(a.MaxSize)
		f["audit-policy-file"] = a.Policy
		if a.Policy == "" {
			f["audit-policy-file"] = o.Layout.Generated(auditPolicyFile)
		}
	}
	return f
}

// bindAddress is the wildcard of both families where the node has both, or else
// that of its own: a kernel without IPv6 cannot bind the other.
func bindAddress(o *Options) string {
	for _, a := range o.Addrs {
		if a.Is6() {
			return "::"
		}
	}
	return "0.0.0.0"
}
