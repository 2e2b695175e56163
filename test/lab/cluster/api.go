// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"sigs.k8s.io/yaml"
)

// api asks the cluster as the machine's kubectl would, by the kubeconfig.
type api struct {
	server string
	client *http.Client
}

func newAPI(kubeconfig []byte) (*api, error) {
	var k struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	err := yaml.Unmarshal(kubeconfig, &k)
	if err == nil && (len(k.Clusters) == 0 || len(k.Users) == 0) {
		err = errors.New("it names no cluster and user")
	}
	if err != nil {
		return nil, fmt.Errorf("read administrator's kubeconfig: %w", err)
	}
	pair, err := tls.X509KeyPair(k.Users[0].User.Cert, k.Users[0].User.Key)
	if err != nil {
		return nil, fmt.Errorf("read administrator's kubeconfig: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.Clusters[0].Cluster.CA)
	return &api{k.Clusters[0].Cluster.Server, newClient(&tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12,
	})}, nil
}

// newClient asks directly: proxies of the machine know nothing of the lab.
func newClient(config *tls.Config) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: config == nil}}
}

// get reads what is at a path of the API.
func (a *api) get(ctx context.Context, path string, into any) error {
	text, err := fetch(ctx, a.client, a.server+path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// maxAnswer bounds what is read: a cluster of one node has no more to say.
const maxAnswer = 16 << 20

// fetch is pending until somebody answers with success.
func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, pending{err.Error()}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, pending{err.Error()}
	}
	if answer.StatusCode != http.StatusOK {
		return nil, pendingf("%s answers %s", url, answer.Status)
	}
	return text, nil
}

func dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return pending{err.Error()}
	}
	return conn.Close()
}
