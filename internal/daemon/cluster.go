// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/intent/file"
	"github.com/waggle-net/waggle/datapath/intent/kube"
	"github.com/waggle-net/waggle/internal/config"
	"github.com/waggle-net/waggle/internal/kubeapi"
	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/internal/version"
)

// source says what there is: a file, or a cluster.
type source interface {
	intent.Source
	// problems are what keeps it from being up to date.
	problems() []status.Problem
	// missing is what it waits for while nothing is known.
	missing() (what, remedy string)
	// holds says that somebody still shows the address of a pod of this node.
	holds(netip.Addr) bool
}

// fileSource is a file, in which there are no pods.
type fileSource struct {
	*file.Source
	path string
}

func (f fileSource) holds(netip.Addr) bool { return false }

func (f fileSource) missing() (what, remedy string) { return f.path, "create the file" }

func (f fileSource) problems() []status.Problem {
	err := f.Problem()
	if err == nil {
		return nil
	}
	return []status.Problem{{
		Component: "intent", Message: err.Error(),
		Remedy: "correct the file; the last good version is in force",
	}}
}

// clusterSource is the API of a cluster.
type clusterSource struct {
	*kube.Source
	client *kubeapi.Client
}

func newClusterSource(cfg *config.Config, log *slog.Logger) (*clusterSource, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o755); err != nil {
		return nil, err
	}
	client, err := kubeapi.New(kubeapi.Config{
		Kubeconfig: cfg.Kubernetes.Kubeconfig, Servers: cfg.Kubernetes.Servers, CacheFile: cfg.ServersFile(),
		UserAgent: "waggled/" + version.Version, Logger: log.With("part", "api"),
	})
	if err != nil {
		return nil, err
	}
	source := kube.New(kube.Config{
		NodeName: cfg.NodeName,
		Nodes:    client.ListWatch(kubeapi.Nodes, kubeapi.Query{}),
		Pods:     client.ListWatch(kubeapi.Pods, kubeapi.Query{Fields: kube.PodSelector(cfg.NodeName)}),
		Services: client.ListWatch(kubeapi.Services, kubeapi.Query{Labels: kube.ServiceLabels, Fields: kube.ServiceFields}),
		EndpointSlices: client.ListWatch(kubeapi.EndpointSlices, kubeapi.Query{
			Labels: kube.SliceLabels,
		}),
		Servers: client.Learn,
		Logger:  log.With("part", "intent"),
	})
	return &clusterSource{Source: source, client: client}, nil
}

// How often an API server is looked for at the start: a control plane that starts
// beside the daemon takes seconds, and every pod of the node waits for both. Informers
// would pause for twice as long each time.
const (
	lookFirst = 50 * time.Millisecond
	lookLast  = time.Second
	// notReady is how long a server that answers may say that it is not ready: some
	// check of it may fail that is of no matter here.
	notReady = 15 * time.Second
)

// Run implements intent.Source. It begins when an API server is ready.
func (c *clusterSource) Run(ctx context.Context, state *intent.State) error {
	var answered time.Time
	for pause := lookFirst; ; pause = min(pause*5/4, lookLast) {
		code := c.look(ctx)
		if code != 0 && answered.IsZero() {
			answered = time.Now()
		}
		if code != 0 && (code < http.StatusInternalServerError || time.Since(answered) > notReady) {
			return c.Source.Run(ctx, state)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// look asks an API server for its health, and returns the HTTP status; 0 where none
// answers. One that does not like to be asked (403, 404) is good enough.
func (c *clusterSource) look(ctx context.Context) (code int) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c.client.Core().Get().AbsPath("/readyz").MaxRetries(0).Do(ctx).StatusCode(&code)
	return code
}

func (c *clusterSource) holds(a netip.Addr) bool { return c.Holds(a) }

func (c *clusterSource) missing() (what, remedy string) {
	return "the cluster's API", "see the other problems; it is tried again by itself"
}

func (c *clusterSource) problems() []status.Problem {
	if p := c.client.Problem(); p != nil {
		return []status.Problem{{Component: "api", Message: p.Message, Remedy: p.Remedy}}
	}
	if err := c.Problem(); err != nil {
		return []status.Problem{{
			Component: "api", Message: err.Error(),
			Remedy: "what was known before is in force; check that the daemon may list and watch these (docs/waggled.md)",
		}}
	}
	return nil
}

// knownNode is what the cluster said of this node last, for a start without it.
type knownNode struct {
	Name     string         `json:"name"`
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
}

// usePodCIDRs completes the configuration by the ranges that the cluster gave this
// node. It waits for them, if they are not known from before.
func (d *Daemon) usePodCIDRs(ctx context.Context, c *clusterSource) error {
	if len(d.cfg.PodCIDRs) > 0 {
		return nil
	}
	known, err := readNode(d.cfg)
	if err != nil {
		d.log.Warn("what the cluster said of this node before cannot be read: asking it", "error", err)
	}
	if known == nil {
		node, err := c.Node(ctx)
		if err != nil {
			return err
		}
		known = &knownNode{Name: node.Name, PodCIDRs: node.PodCIDRs}
	}
	if err := d.cfg.UsePodCIDRs(known.PodCIDRs); err != nil {
		return fmt.Errorf("use the ranges that the cluster gave node %s: %w", d.cfg.NodeName, err)
	}
	d.log.Info("pods get addresses from", "podCIDRs", d.cfg.PodCIDRs)
	return writeNode(d.cfg, known)
}

// readNode returns nil where nothing is remembered of a node of this name.
func readNode(cfg *config.Config) (*knownNode, error) {
	data, err := os.ReadFile(cfg.NodeFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var n knownNode
	if err := json.Unmarshal(data, &n); err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.NodeFile(), err)
	}
	if n.Name != cfg.NodeName || len(n.PodCIDRs) == 0 {
		return nil, nil
	}
	return &n, nil
}

// writeNode replaces the file in one step, where it says something else.
func writeNode(cfg *config.Config, n *knownNode) error {
	if have, err := readNode(cfg); err == nil && have != nil && slices.Equal(have.PodCIDRs, n.PodCIDRs) {
		return nil
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	path := cfg.NodeFile()
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("remember the node: %w", err)
	}
	return nil
}
