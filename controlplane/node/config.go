// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubeletinternal "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubeletscheme "k8s.io/kubernetes/pkg/kubelet/apis/config/scheme"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/util/taints"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// healthzPort is where the kubelet says that it is alive, on the loopback device only.
const healthzPort = 10248

// kubeletConfig is the kubelet's configuration: ours, with that of the user laid over
// it as a JSON merge patch (RFC 7386), defaulted and validated by upstream's code.
func kubeletConfig(o *Options) (*kubeletinternal.KubeletConfiguration, error) {
	base, err := baseConfig(o)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(base)
	if err != nil {
		return nil, fmt.Errorf("encode kubelet configuration: %w", err)
	}
	if len(o.Kubelet) != 0 {
		if data, err = jsonpatch.MergePatch(data, o.Kubelet); err != nil {
			return nil, fmt.Errorf("kubelet.config: %w", err)
		}
	}
	if err := setFeatureGates(data); err != nil {
		return nil, err
	}
	// Strict: upstream's own loading falls back to a decoder that drops what it does
	// not know, and so a mistyped key.
	_, codecs, err := kubeletscheme.NewSchemeAndCodecs(serializer.EnableStrict)
	if err != nil {
		return nil, fmt.Errorf("decode kubelet configuration: %w", err)
	}
	obj, _, err := codecs.UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("kubelet.config: %w", err)
	}
	c, ok := obj.(*kubeletinternal.KubeletConfiguration)
	if !ok {
		return nil, fmt.Errorf("kubelet.config: is a %T, not a KubeletConfiguration", obj)
	}
	// It has no default of its own where it is read from a file.
	if c.EvictionHard == nil {
		c.EvictionHard = eviction.DefaultEvictionHard
	}
	if err := validation.ValidateKubeletConfiguration(c, utilfeature.DefaultFeatureGate); err != nil {
		return nil, fmt.Errorf("kubelet.config: %w", err)
	}
	return c, nil
}

// setFeatureGates sets those of a configuration before it is decoded: defaults depend
// on them, and upstream's defaulting panics at one that does not exist.
func setFeatureGates(data []byte) error {
	var c struct {
		FeatureGates map[string]bool `json:"featureGates"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("kubelet.config: %w", err)
	}
	// On a copy first, for what cannot be set is remembered, too.
	for _, gate := range []interface{ SetFromMap(map[string]bool) error }{
		utilfeature.DefaultMutableFeatureGate.DeepCopy(), utilfeature.DefaultMutableFeatureGate,
	} {
		if err := gate.SetFromMap(c.FeatureGates); err != nil {
			return fmt.Errorf("kubelet.config: featureGates: %w", err)
		}
	}
	return nil
}

// baseConfig is what we choose. Everything else is as upstream defaults it.
func baseConfig(o *Options) (*kubeletv1beta1.KubeletConfiguration, error) {
	add, _, err := taints.ParseTaints(o.Taints)
	if err != nil {
		return nil, fmt.Errorf("kubelet.taints: %w", err)
	}
	c := &kubeletv1beta1.KubeletConfiguration{
		TypeMeta:                 metav1.TypeMeta{APIVersion: kubeletv1beta1.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		ContainerRuntimeEndpoint: "unix://" + o.Layout.ContainerdSocket(),
		CgroupDriver:             o.CgroupDriver,
		CgroupRoot:               o.CgroupRoot,
		// Where a system has v2, v2 is what is used; where it has not, refusing to run
		// helps nobody.
		FailCgroupV1: new(false),
		// A laptop swaps. Pods do not, see MemorySwap.
		FailSwapOn: new(false),
		MemorySwap: kubeletv1beta1.MemorySwapConfiguration{SwapBehavior: "NoSwap"},

		ClusterDomain:      o.Domain,
		ResolverConfig:     new(o.ResolvConf),
		VolumePluginDir:    o.Layout.KubeletDir() + "/volume-plugins",
		HealthzPort:        new(int32(healthzPort)),
		HealthzBindAddress: "127.0.0.1",

		TLSCertFile:       o.Layout.PKI("kubelet-serving.pem"),
		TLSPrivateKeyFile: o.Layout.PKI("kubelet-serving.pem"),
		Authentication: kubeletv1beta1.KubeletAuthentication{
			Anonymous: kubeletv1beta1.KubeletAnonymousAuthentication{Enabled: new(false)},
			Webhook:   kubeletv1beta1.KubeletWebhookAuthentication{Enabled: new(true)},
			X509:      kubeletv1beta1.KubeletX509Authentication{ClientCAFile: o.Layout.PKI("cluster-ca.crt")},
		},
		Authorization:      kubeletv1beta1.KubeletAuthorization{Mode: kubeletv1beta1.KubeletAuthorizationModeWebhook},
		RegisterWithTaints: add,
	}
	for _, a := range o.DNSAddrs {
		c.ClusterDNS = append(c.ClusterDNS, a.String())
	}
	return c, nil
}
