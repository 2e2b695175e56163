// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// What waggle-kube says about keys and flags that are its own.
const (
	pkiRemedy      = "waggle-kube makes certificates and renews them: take it out"
	authRemedy     = "waggle-kube decides who may do what: take it out"
	identityRemedy = "waggle-kube says what the fragment is: take it out"
	runtimeRemedy  = "waggle-kube runs containerd itself: take it out"
	portRemedy     = "the ports of components are fixed (docs/kube-config.md): take it out"
	logRemedy      = "one process has one log: set logLevel"
)

// ownedKubeletKeys are the keys of KubeletConfiguration that are ours, and what to
// do instead.
var ownedKubeletKeys = map[string]string{
	"apiVersion":               identityRemedy,
	"kind":                     identityRemedy,
	"address":                  portRemedy,
	"port":                     portRemedy,
	"readOnlyPort":             portRemedy,
	"healthzPort":              portRemedy,
	"healthzBindAddress":       portRemedy,
	"enableServer":             "logs and exec need it: take it out",
	"tlsCertFile":              pkiRemedy,
	"tlsPrivateKeyFile":        pkiRemedy,
	"rotateCertificates":       pkiRemedy,
	"serverTLSBootstrap":       pkiRemedy,
	"authentication":           authRemedy,
	"authorization":            authRemedy,
	"clusterDomain":            "set clusterDomain of this configuration",
	"clusterDNS":               "set dns.addresses",
	"containerRuntimeEndpoint": runtimeRemedy,
	"imageServiceEndpoint":     runtimeRemedy,
	"cgroupDriver":             "it must be containerd's: waggle-kube detects which one: take it out",
	"cgroupRoot":               "set kubelet.cgroupRoot",
	"podCIDR":                  "the control plane gives each node its range: set podCIDRs",
	"registerNode":             "a node that does not register is none: take it out",
	"registerWithTaints":       "set kubelet.taints",
	"runOnce":                  "the kubelet would end: take it out",
	"logging":                  logRemedy,
}

// freeKubeletKeys are the others of kubelet.config.k8s.io/v1beta1. A test holds
// both lists to the type in k8s.io/kubelet.
var freeKubeletKeys = strings.Fields(`
	allowedUnsafeSysctls cgroupsPerQOS configMapAndSecretChangeDetectionStrategy containerLogMaxFiles
	containerLogMaxSize containerLogMaxWorkers containerLogMonitorInterval contentType cpuCFSQuota
	cpuCFSQuotaPeriod cpuManagerPolicy cpuManagerPolicyOptions cpuManagerReconcilePeriod crashLoopBackOff
	enableContentionProfiling enableControllerAttachDetach enableDebugFlagsHandler enableDebuggingHandlers
	enableProfilingHandler enableSystemLogHandler enableSystemLogQuery enforceNodeAllocatable eventBurst
	eventRecordQPS evictionHard evictionMaxPodGracePeriod evictionMinimumReclaim
	evictionPressureTransitionPeriod evictionSoft evictionSoftGracePeriod failCgroupV1 failSwapOn
	featureGates fileCheckFrequency hairpinMode httpCheckFrequency imageGCHighThresholdPercent
	imageGCLowThresholdPercent imageMaximumGCAge imageMinimumGCAge imagePullCredentialsVerificationPolicy
	iptablesDropBit iptablesMasqueradeBit kernelMemcgNotification kubeAPIBurst kubeAPIQPS kubeReserved
	kubeReservedCgroup kubeletCgroups localStorageCapacityIsolation makeIPTablesUtilChains
	maxOpenFiles maxParallelImagePulls maxPods memoryManagerPolicy memoryReservationPolicy memorySwap
	memoryThrottlingFactor mergeDefaultEvictionSettings nodeLeaseDurationSeconds nodeStatusMaxImages
	nodeStatusReportFrequency nodeStatusUpdateFrequency oomScoreAdj podLogsDir podPidsLimit podsPerCore
	preloadedImagesVerificationAllowlist protectKernelDefaults providerID qosReserved registryBurst
	registryPullQPS reservedMemory reservedSystemCPUs resolvConf runtimeRequestTimeout seccompDefault
	serializeImagePulls showHiddenMetricsForVersion shutdownGracePeriod
	shutdownGracePeriodByPodPriority shutdownGracePeriodCriticalPods singleProcessOOMKill staticPodPath
	staticPodURL staticPodURLHeader streamingConnectionIdleTimeout syncFrequency systemCgroups
	systemReserved systemReservedCgroup tlsCipherSuites tlsCurvePreferences tlsMinVersion
	topologyManagerPolicy topologyManagerPolicyOptions topologyManagerScope tracing userNamespaces
	volumePluginDir volumeStatsAggPeriod`)

func (k *Kubelet) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(k.Config)) {
		remedy, owned := ownedKubeletKeys[key]
		switch at := p.Child("config", key); {
		case owned:
			errs = append(errs, field.Forbidden(at, remedy))
		case slices.Contains(freeKubeletKeys, key):
		default:
			what := "see KubeletConfiguration in the documentation of Kubernetes"
			if best, ok := strict.Nearest(key, freeKubeletKeys); ok {
				what = "did you mean " + best + "?"
			}
			errs = append(errs, field.Forbidden(at, "unknown key: "+what))
		}
	}
	errs = append(errs, k.validateLabels(p.Child("labels"))...)
	return append(errs, k.validateTaints(p.Child("taints"))...)
}

func (k *Kubelet) validateLabels(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(k.Labels)) {
		value, at := k.Labels[name], p.Key(name)
		switch {
		case len(validation.IsQualifiedName(name)) > 0:
			errs = append(errs, field.Invalid(at, name, "use a name of letters, digits, '-', '_' and '.', 63 at most, with or without a DNS name and '/' before it"))
		case len(validation.IsValidLabelValue(value)) > 0:
			errs = append(errs, field.Invalid(at, value, "use letters, digits, '-', '_' and '.', 63 at most"))
		case !mayLabel(name):
			errs = append(errs, field.Forbidden(at, "a kubelet may not give itself this label of Kubernetes' own: use another domain, or node.kubernetes.io/, or kubectl label node"))
		}
	}
	return errs
}

// selfLabels are those of Kubernetes that the kubelet may set on its own node, see
// k8s.io/kubelet/pkg/apis: what decides about secrets and policy is not among them.
var selfLabels = strings.Fields(`
	kubernetes.io/hostname kubernetes.io/os kubernetes.io/arch beta.kubernetes.io/os beta.kubernetes.io/arch
	topology.kubernetes.io/zone topology.kubernetes.io/region node.kubernetes.io/instance-type
	failure-domain.beta.kubernetes.io/zone failure-domain.beta.kubernetes.io/region beta.kubernetes.io/instance-type`)

func mayLabel(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	below := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	if !ok || !below("kubernetes.io") && !below("k8s.io") {
		return true
	}
	return below("kubelet.kubernetes.io") || below("node.kubernetes.io") || slices.Contains(selfLabels, name)
}

func (k *Kubelet) validateTaints(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	effects := []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}
	for i, t := range k.Taints {
		at := p.Index(i)
		switch {
		case len(validation.IsQualifiedName(t.Key)) > 0:
			errs = append(errs, field.Invalid(at, t.String(), "the key must be a name of letters, digits, '-', '_' and '.', with or without a DNS name and '/' before it"))
		case len(validation.IsValidLabelValue(t.Value)) > 0:
			errs = append(errs, field.Invalid(at, t.String(), "the value must be of letters, digits, '-', '_' and '.', 63 at most"))
		case !slices.Contains(effects, t.Effect):
			errs = append(errs, field.Invalid(at, t.String(), "the effect must be one of "+strings.Join(effects, ", ")))
		}
		if j := slices.IndexFunc(k.Taints[:i], func(o Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }); j >= 0 {
			errs = append(errs, field.Invalid(at, t.String(), fmt.Sprintf("%s has the same key and effect: keep one of them", p.Index(j))))
		}
	}
	return errs
}
