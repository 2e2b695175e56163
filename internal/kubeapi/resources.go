// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// protobuf is what costs the least to read. JSON is accepted for what has no other
// form.
var protobuf = rest.ContentConfig{
	AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
	ContentType:        runtime.ContentTypeProtobuf,
}

// resources are clients for the groups that a daemon needs. The clientset of
// client-go has all groups, and costs the memory of them.
type resources struct {
	core, discovery rest.Interface
}

func newResources(cfg *rest.Config) (*resources, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register types of the API: %w", err)
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	httpClient := &http.Client{Transport: cfg.Transport}
	client := func(apiPath string, gv schema.GroupVersion) (rest.Interface, error) {
		c := rest.CopyConfig(cfg)
		c.APIPath = apiPath
		c.GroupVersion = &gv
		c.NegotiatedSerializer = codecs.WithoutConversion()
		client, err := rest.RESTClientForConfigAndClient(c, httpClient)
		if err != nil {
			return nil, fmt.Errorf("make client for %s: %w", gv, err)
		}
		return client, nil
	}
	core, err := client("/api", corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	discovery, err := client("/apis", discoveryv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	return &resources{core: core, discovery: discovery}, nil
}

// Core is a client for the types of k8s.io/api/core/v1.
func (c *Client) Core() rest.Interface { return c.resources.core }

// Discovery is a client for the types of k8s.io/api/discovery/v1.
func (c *Client) Discovery() rest.Interface { return c.resources.discovery }

// Resource is a collection of the API that ListWatch can follow.
type Resource string

// The resources that the datapath is made from.
const (
	Nodes          Resource = "nodes"
	Pods           Resource = "pods"
	Services       Resource = "services"
	EndpointSlices Resource = "endpointslices"
)

// Query says which objects of a resource are meant. The zero value means all.
type Query struct {
	Namespace string
	Fields    string // a field selector, such as spec.nodeName=node-1
	Labels    string // a label selector, such as kubernetes.io/service-name=kubernetes
}

// ListWatch is what an informer follows. The server streams what there is
// (WatchList) if it can, and a watch goes on with another server where it was.
func (c *Client) ListWatch(r Resource, q Query) *cache.ListWatch {
	client := c.resources.core
	if r == EndpointSlices {
		client = c.resources.discovery
	}
	return cache.NewFilteredListWatchFromClient(client, string(r), q.Namespace, func(o *metav1.ListOptions) {
		o.FieldSelector, o.LabelSelector = q.Fields, q.Labels
	})
}
