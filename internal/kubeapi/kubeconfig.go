// SPDX-License-Identifier: Apache-2.0

package kubeapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// load returns who we are by the kubeconfig's current context, and the configured
// servers.
func load(path string, urls []string) (*rest.Config, []*server, error) {
	if path == "" {
		return nil, nil, errors.New("kubernetes.kubeconfig: required: set it to the path of a kubeconfig with this node's credentials")
	}
	configured, err := parseServers(urls)
	if err != nil {
		return nil, nil, err
	}
	k, err := readKubeconfig(path)
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*rest.Config, []*server, error) {
		return nil, nil, fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	cluster, err := currentCluster(k, path)
	if err != nil {
		return fail(err)
	}
	if len(configured) == 0 {
		s, err := kubeconfigServer(cluster, k.Contexts[k.CurrentContext].Cluster)
		if err != nil {
			return fail(err)
		}
		configured = []*server{s}
	}
	// Where requests go is decided later; client-go wants one that is https, and
	// tells it to credential plugins.
	cluster.Server = configured[0].String()
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*k, k.CurrentContext, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return fail(fmt.Errorf("%w: correct the kubeconfig, or create what it names", err))
	}
	if err := errors.Join(checkAuthority(cfg), checkIdentity(cfg, k.Contexts[k.CurrentContext].AuthInfo)); err != nil {
		return fail(err)
	}
	return cfg, configured, nil
}

// parseServers says all that is wrong at once, and drops what is there twice.
func parseServers(urls []string) ([]*server, error) {
	var out []*server
	var errs []error
	for i, text := range urls {
		s, err := parseServer(text, FromConfig)
		if err != nil {
			errs = append(errs, fmt.Errorf("kubernetes.servers[%d]: %w", i, err))
		} else if find(out, s.key) == nil {
			out = append(out, s)
		}
	}
	return out, errors.Join(errs...)
}

func readKubeconfig(path string) (*clientcmdapi.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w: create the file, or correct kubernetes.kubeconfig", err)
	}
	k, err := clientcmd.Load(text)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: not a kubeconfig: %w: write one, or correct kubernetes.kubeconfig", path, err)
	}
	for _, c := range k.Clusters {
		c.LocationOfOrigin = path
	}
	for _, u := range k.AuthInfos {
		u.LocationOfOrigin = path
	}
	// Relative paths are relative to the kubeconfig.
	if err := clientcmd.ResolveLocalPaths(k); err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	return k, nil
}

func currentCluster(k *clientcmdapi.Config, path string) (*clientcmdapi.Cluster, error) {
	name := k.CurrentContext
	if name == "" {
		return nil, fmt.Errorf("no current-context: set one: kubectl config use-context NAME --kubeconfig %s", path)
	}
	context := k.Contexts[name]
	if context == nil {
		return nil, fmt.Errorf("current-context %q is not among its contexts: set another one, or add it", name)
	}
	cluster := k.Clusters[context.Cluster]
	switch {
	case cluster == nil:
		return nil, fmt.Errorf("cluster %q of context %q is not among its clusters: add it", context.Cluster, name)
	case k.AuthInfos[context.AuthInfo] == nil:
		return nil, fmt.Errorf("user %q of context %q is not among its users: add it", context.AuthInfo, name)
	case cluster.InsecureSkipTLSVerify:
		return nil, fmt.Errorf("cluster %q has insecure-skip-tls-verify, by which any machine can be its API server: set certificate-authority instead", context.Cluster)
	}
	return cluster, nil
}

func kubeconfigServer(cluster *clientcmdapi.Cluster, name string) (*server, error) {
	if cluster.Server == "" {
		return nil, fmt.Errorf("cluster %q has no server: set it, or kubernetes.servers", name)
	}
	s, err := parseServer(cluster.Server, FromKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("server of cluster %q: %w", name, err)
	}
	return s, nil
}

// checkAuthority and checkIdentity find at the start what else shows when the first
// connection is made.
func checkAuthority(cfg *rest.Config) error {
	if cfg.CAFile == "" && len(cfg.CAData) == 0 {
		return nil // the machine's CAs
	}
	ca, from, err := dataOrFile(cfg.CAData, cfg.CAFile)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(ca) {
		return fmt.Errorf("certificate authority in %s: no PEM certificate: put the cluster's CA there", from)
	}
	return nil
}

func checkIdentity(cfg *rest.Config, user string) error {
	certificate := cfg.CertFile != "" || len(cfg.CertData) != 0
	token := strings.TrimSpace(cfg.BearerToken) != "" || cfg.BearerTokenFile != ""
	switch {
	case !certificate && !token && cfg.ExecProvider == nil && cfg.AuthProvider == nil && cfg.Username == "":
		return fmt.Errorf("user %q has no credentials: set client-certificate and client-key, or tokenFile", user)
	case cfg.BearerTokenFile != "" && strings.TrimSpace(cfg.BearerToken) == "":
		return fmt.Errorf("token file %s of user %q is empty: write a token into it", cfg.BearerTokenFile, user)
	case certificate:
		return checkCertificate(cfg, user)
	}
	return nil
}

func checkCertificate(cfg *rest.Config, user string) error {
	cert, certFrom, err := dataOrFile(cfg.CertData, cfg.CertFile)
	if err != nil {
		return fmt.Errorf("client certificate of user %q: %w", user, err)
	}
	key, keyFrom, err := dataOrFile(cfg.KeyData, cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("client key of user %q: %w", user, err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("user %q: client certificate in %s, client key in %s: %w: put a pair there", user, certFrom, keyFrom, err)
	}
	return nil
}

// dataOrFile also says where the data is from. As in client-go, that in the
// kubeconfig wins.
func dataOrFile(data []byte, path string) ([]byte, string, error) {
	if len(data) != 0 {
		return data, "the kubeconfig", nil
	}
	data, err := os.ReadFile(path)
	return data, path, err
}
