// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	cadvisor "github.com/google/cadvisor/container/containerd"
	"k8s.io/apimachinery/pkg/util/wait"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/configz"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletinternal "k8s.io/kubernetes/pkg/kubelet/apis/config"

	"github.com/waggle-net/waggle/controlplane/health"
)

// kubeletConfigz is the name that the kubelet registers its configuration under.
const kubeletConfigz = "kubeletconfig"

// runKubelet runs the kubelet until ctx ends.
func runKubelet(ctx context.Context, o *Options, config *kubeletinternal.KubeletConfiguration) error {
	if err := os.MkdirAll(o.Layout.KubeletDir(), 0o700); err != nil {
		return fmt.Errorf("make kubelet's folder: %w", err)
	}
	f := options.NewKubeletFlags()
	f.KubeConfig = o.Layout.Kubeconfig(kubeletName)
	f.HostnameOverride = o.Name
	f.NodeIP = nodeIPs(o)
	f.RootDirectory = o.Layout.KubeletDir()
	f.CertDirectory = o.Layout.KubeletDir() + "/pki"
	f.NodeLabels = o.Labels
	// The default is the socket of the system's containerd: containers would have no
	// statistics.
	*cadvisor.ArgContainerdEndpoint = o.Layout.ContainerdSocket()
	// A second registration in one process is refused.
	defer configz.Delete(kubeletConfigz)

	server := &options.KubeletServer{KubeletFlags: *f, KubeletConfiguration: *config}
	deps, err := app.UnsecuredDependencies(ctx, server, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("configure kubelet: %w", err)
	}
	return app.Run(ctx, server, deps, utilfeature.DefaultFeatureGate)
}

// nodeIPs is the value of --node-ip: one address, or one of each family.
func nodeIPs(o *Options) string {
	s := o.Addrs[0].String()
	if len(o.Addrs) > 1 {
		s += "," + o.Addrs[1].String()
	}
	return s
}

// watchKubelet reports the kubelet as ready once it says that it is healthy.
func watchKubelet(ctx context.Context, board *health.Board, log *slog.Logger) error {
	url := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(healthzPort)) + "/healthz"
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := healthy(ctx, client, url)
		if err == nil {
			board.Set(kubeletName, health.Ready, "")
			log.Info("component is ready", "component", kubeletName)
		} else {
			board.Set(kubeletName, health.Starting, err.Error())
		}
		return err == nil, nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func healthy(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
