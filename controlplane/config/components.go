// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The components that take more flags, by their key in the file.
const (
	ComponentEtcd              = "etcd"
	ComponentAPIServer         = "apiserver"
	ComponentControllerManager = "controllerManager"
	ComponentScheduler         = "scheduler"
)

const (
	etcdRemedy     = "waggle-kube runs etcd itself: take it out"
	memberRemedy   = "waggle-kube joins etcd's members: take it out"
	kubeconfRemedy = "waggle-kube writes kubeconfigs: take it out"
	leaderRemedy   = "waggle-kube elects leaders itself: take it out"
	gatesRemedy    = "it is the same for apiserver, controller-manager and scheduler: set it in components.apiserver"
)

// owned are flags that are ours, and what to do instead. A name that ends in * is
// what names begin with.
type owned struct{ names, remedy string }

// serving are the flags of whatever serves HTTPS.
var serving = []owned{
	{"bind-address permit-port-sharing permit-address-sharing", portRemedy},
	{"cert-dir tls-cert-file tls-private-key-file client-ca-file requestheader-*", pkiRemedy},
}

// process are the flags of what is there once in a process.
var process = []owned{
	{"v vmodule logging-format log-*", logRemedy},
	{"feature-gates emulated-version min-compatibility-version", gatesRemedy},
}

// controller are those of what speaks to the API.
var controller = []owned{
	{"secure-port", portRemedy},
	{"kubeconfig authentication-kubeconfig authorization-kubeconfig master config write-config-to", kubeconfRemedy},
	{"leader-elect leader-elect-*", leaderRemedy},
}

var ownedFlags = map[string][]owned{
	ComponentEtcd: {
		{"data-dir wal-dir", "set dataDir"},
		{"quota-backend-bytes", "set etcd.quotaBytes"},
		{"listen-* advertise-client-urls socket-*", portRemedy},
		{"name initial-* discovery* force-new-cluster config-file proxy-*", memberRemedy},
		{"cert-file key-file client-cert-file client-key-file client-cert-auth client-crl-file trusted-ca-file auto-tls self-signed-cert-validity peer-*", pkiRemedy},
		{"auth-token*", authRemedy},
		{"unsafe-no-fsync", "a power cut would lose the cluster: take it out"},
		{"log-* logger enable-log-rotation", logRemedy},
	},
	ComponentAPIServer: slices.Concat([]owned{
		{"secure-port", "set apiserver.port"},
		{"advertise-address", "set nodeIPs"},
		{"service-cluster-ip-range", "set serviceCIDRs"},
		{"service-node-port-range", "set apiserver.serviceNodePorts"},
		{"audit-log-path audit-log-maxage audit-log-maxbackup audit-log-maxsize audit-policy-file", "set audit"},
		{"etcd-servers etcd-servers-overrides etcd-prefix etcd-cafile etcd-certfile etcd-keyfile storage-backend", etcdRemedy},
		{"proxy-client-* kubelet-client-* kubelet-certificate-authority service-account-key-file service-account-signing-key-file service-account-signing-endpoint", pkiRemedy},
		{"anonymous-auth authentication-config authorization-mode authorization-config authorization-webhook-* enable-bootstrap-token-auth", authRemedy},
		{"encryption-provider-config*", "waggle-kube encrypts secrets and rotates their keys: take it out"},
		{"v vmodule logging-format log-*", logRemedy},
	}, serving),
	ComponentControllerManager: slices.Concat([]owned{
		{"cluster-cidr", "set podCIDRs"},
		{"service-cluster-ip-range", "set serviceCIDRs"},
		{"node-cidr-mask-size node-cidr-mask-size-ipv4 node-cidr-mask-size-ipv6", "set nodeCIDRMaskSizes"},
		{"allocate-node-cidrs", "pods need the node's range: take it out"},
		{"cluster-signing-cert-file cluster-signing-key-file cluster-signing-kube-* cluster-signing-kubelet-* cluster-signing-legacy-* root-ca-file service-account-private-key-file", pkiRemedy},
		{"cluster-signing-duration", "set certificates.validity"},
		{"use-service-account-credentials", authRemedy},
	}, serving, process, controller),
	ComponentScheduler: slices.Concat(serving, process, controller),
}

// OwnedFlag says whether a component's flag is ours, and what to do instead of
// setting it.
func OwnedFlag(component, name string) (remedy string, ok bool) {
	for _, o := range ownedFlags[component] {
		for pattern := range strings.FieldsSeq(o.names) {
			start, wild := strings.CutSuffix(pattern, "*")
			if name == pattern || wild && strings.HasPrefix(name, start) {
				return o.remedy, true
			}
		}
	}
	return "", false
}

// flagName is what names look like. Kubernetes takes '_' for '-': a name with it
// would pass for one that is not ours.
var flagName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// flags are the flags of each component.
func (c *Components) flags() map[string]map[string]string {
	return map[string]map[string]string{
		ComponentEtcd: c.Etcd, ComponentAPIServer: c.APIServer,
		ComponentControllerManager: c.ControllerManager, ComponentScheduler: c.Scheduler,
	}
}

func (c *Components) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	all := c.flags()
	for _, component := range slices.Sorted(maps.Keys(all)) {
		for _, name := range slices.Sorted(maps.Keys(all[component])) {
			at := p.Child(component).Key(name)
			remedy, isOurs := OwnedFlag(component, name)
			switch {
			case strings.HasPrefix(name, "-"):
				errs = append(errs, field.Invalid(at, name, "write the name without dashes before it"))
			case !flagName.MatchString(name):
				errs = append(errs, field.Invalid(at, name, "use the name of a flag: lower case letters and digits, and '-' between words"))
			case isOurs:
				errs = append(errs, field.Forbidden(at, remedy))
			}
		}
	}
	return append(errs, nodeRestriction(p.Child(ComponentAPIServer), c.APIServer)...)
}

// nodeRestriction checks that the plugin stays that keeps a node off other nodes'
// objects.
func nodeRestriction(p *field.Path, flags map[string]string) field.ErrorList {
	const on, off, plugin = "enable-admission-plugins", "disable-admission-plugins", "NodeRestriction"
	has := func(list string) bool { return slices.Contains(strings.Split(list, ","), plugin) }
	var errs field.ErrorList
	if list, ok := flags[on]; ok && !has(list) {
		errs = append(errs, field.Invalid(p.Key(on), list, "nodes could change other nodes' objects: add "+plugin))
	}
	if has(flags[off]) {
		errs = append(errs, field.Invalid(p.Key(off), flags[off], "nodes could change other nodes' objects: remove "+plugin))
	}
	return errs
}
