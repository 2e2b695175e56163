// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"sigs.k8s.io/yaml"
)

// Identities of layout.Layout.Kubeconfig.
const (
	AdminKubeconfig             = "admin"
	ControllerManagerKubeconfig = "controller-manager"
	SchedulerKubeconfig         = "scheduler"
	KubeletKubeconfig           = "kubelet"
	WaggledKubeconfig           = "waggled"
)

// clusterName names the cluster in kubeconfigs.
const clusterName = "waggle-kube"

const kubeconfigHead = `# Written by waggle-kube, and again when certificate, CA or address change.
# Keep what you want to change in a copy.
`

// kubeconfig is as much of a kubeconfig as we write. What a person adds with
// kubectl, such as a namespace, is not in it and so makes no difference.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CAFile string `json:"certificate-authority,omitempty"`
		CAData string `json:"certificate-authority-data,omitempty"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		CertFile string `json:"client-certificate,omitempty"`
		KeyFile  string `json:"client-key,omitempty"`
		CertData string `json:"client-certificate-data,omitempty"`
		KeyData  string `json:"client-key-data,omitempty"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

func newKubeconfig(user, server string) kubeconfig {
	k := kubeconfig{
		APIVersion:     "v1",
		Kind:           "Config",
		Clusters:       []namedCluster{{Name: clusterName}},
		Users:          []namedUser{{Name: user}},
		Contexts:       []namedContext{{Name: user + "@" + clusterName}},
		CurrentContext: user + "@" + clusterName,
	}
	k.Clusters[0].Cluster.Server = server
	k.Contexts[0].Context.Cluster = clusterName
	k.Contexts[0].Context.User = user
	return k
}

// lacks says what of another kubeconfig this one has not, or nothing.
func (k kubeconfig) lacks(want kubeconfig) string {
	switch {
	case !slices.Contains(k.Clusters, want.Clusters[0]):
		return "had another server or CA"
	case !slices.Contains(k.Users, want.Users[0]):
		return "had another client certificate"
	case !slices.Contains(k.Contexts, want.Contexts[0]) || k.CurrentContext == "":
		return "lacked its context"
	}
	return ""
}

// kubeconfigs writes those that are not as they are to be.
func (r *run) kubeconfigs() error {
	var errs []error
	for _, c := range []struct{ identity, file string }{
		{ControllerManagerKubeconfig, ControllerManager},
		{SchedulerKubeconfig, Scheduler},
		{KubeletKubeconfig, KubeletClient},
		{WaggledKubeconfig, Waggled},
	} {
		errs = append(errs, r.kubeconfig(c.identity, r.componentKubeconfig(c.identity, c.file), time.Time{}))
	}
	k, until, err := r.adminKubeconfig()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, r.kubeconfig(AdminKubeconfig, k, until))...)
}

// componentKubeconfig refers to files, which client-go reads again when they were
// renewed. Components are on the apiserver's machine, and need no address of it.
func (r *run) componentKubeconfig(identity, file string) kubeconfig {
	host := netip.IPv6Loopback()
	if slices.ContainsFunc(r.spec.NodeIPs, func(ip netip.Addr) bool { return ip.Unmap().Is4() }) {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	k := newKubeconfig(identity, r.url(host))
	k.Clusters[0].Cluster.CAFile = r.spec.Layout.PKI(ClusterCACert)
	k.Users[0].User.CertFile = r.spec.Layout.PKI(file)
	k.Users[0].User.KeyFile = r.spec.Layout.PKI(file)
	return k
}

// adminKubeconfig holds all it needs, so that it can be carried to another
// machine.
func (r *run) adminKubeconfig() (kubeconfig, time.Time, error) {
	fail := func(err error) (kubeconfig, time.Time, error) {
		return kubeconfig{}, time.Time{}, fmt.Errorf("make %s: %w", r.spec.Layout.Kubeconfig(AdminKubeconfig), err)
	}
	text, err := os.ReadFile(r.spec.Layout.PKI(Admin))
	if err != nil {
		return fail(err)
	}
	admin, err := parsePair(text, text)
	if err != nil {
		return fail(err)
	}
	key, err := admin.keyPEM()
	if err != nil {
		return fail(err)
	}
	k := newKubeconfig(AdminKubeconfig, r.url(r.spec.NodeIPs[0].Unmap()))
	k.Clusters[0].Cluster.CAData = base64.StdEncoding.EncodeToString(r.cas[ClusterCACert].certPEM())
	k.Users[0].User.CertData = base64.StdEncoding.EncodeToString(admin.certPEM())
	k.Users[0].User.KeyData = base64.StdEncoding.EncodeToString(key)
	return k, admin.cert().NotAfter, nil
}

func (r *run) url(host netip.Addr) string {
	return "https://" + netip.AddrPortFrom(host, r.spec.Port).String()
}

// kubeconfig writes one kubeconfig if it differs in what we write.
func (r *run) kubeconfig(identity string, want kubeconfig, until time.Time) error {
	path := r.spec.Layout.Kubeconfig(identity)
	if err := errors.Join(r.discard(path), r.restrict(path, secretMode)); err != nil {
		return err
	}
	reason, err := whyRewrite(path, want)
	if err != nil || reason == "" {
		return err
	}
	text, err := yaml.Marshal(want)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	if err := r.write(path, append([]byte(kubeconfigHead), text...), secretMode); err != nil {
		return err
	}
	r.record(path, reason, until)
	return nil
}

func whyRewrite(path string, want kubeconfig) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "did not exist", nil
	}
	if err != nil {
		return "", fmt.Errorf("read kubeconfig: %w", err)
	}
	var have kubeconfig
	if err := yaml.Unmarshal(text, &have); err != nil {
		return "was damaged", nil // the cause may quote a key
	}
	return have.lacks(want), nil
}
