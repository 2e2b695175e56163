// SPDX-License-Identifier: Apache-2.0

// Package daemon is waggled put together: which part exists, in which order
// they start, and what is looked after while they run.
//
// The order of the start is what keeps a restart from losing packets. Nothing
// is flushed: each part first takes over what the daemon before it left in the
// kernel. What lets packets through is published only when it is complete.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waggle-net/waggle/bpf"
	"github.com/waggle-net/waggle/cni/install"
	"github.com/waggle-net/waggle/cni/server"
	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/datapath/flow"
	"github.com/waggle-net/waggle/datapath/intent"
	"github.com/waggle-net/waggle/datapath/intent/file"
	"github.com/waggle-net/waggle/datapath/loader"
	"github.com/waggle-net/waggle/datapath/route"
	"github.com/waggle-net/waggle/datapath/service"
	"github.com/waggle-net/waggle/datapath/uplink"
	"github.com/waggle-net/waggle/internal/config"
	"github.com/waggle-net/waggle/internal/status"
)

// upkeepInterval is how often the kernel is compared with what it should hold.
const upkeepInterval = 30 * time.Second

// Daemon is one running waggled.
type Daemon struct {
	cfg     *config.Config
	log     *slog.Logger
	started time.Time

	cni       *server.Server
	loader    *loader.Loader
	routes    *route.Manager
	endpoints *endpoint.Manager
	services  *service.Manager
	names     *flow.Names
	uplink    *uplink.Manager
	state     *intent.State
	source    source
	cluster   *clusterSource // nil without a cluster

	// rangesFromCluster says that the configuration had no pod CIDRs.
	rangesFromCluster bool
	nodeAddrs         []netip.Addr  // of syncServices
	published         chan struct{} // closed when all services are in the kernel
	problems          problems
}

// Run takes the node over and looks after it until ctx ends. What it attached
// stays in place.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	d := &Daemon{
		cfg: cfg, log: log, started: time.Now(), state: intent.NewState(),
		rangesFromCluster: len(cfg.PodCIDRs) == 0, published: make(chan struct{}),
	}
	if err := d.connect(); err != nil {
		return err
	}
	g, parts := errgroup.WithContext(ctx)
	g.Go(func() error { return d.source.Run(parts, d.state) })
	g.Go(func() error { return d.run(parts) })
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to end; without that, it is a part that failed
	}
	return err
}

// connect makes the source. It comes first: a cluster knows the node's ranges.
func (d *Daemon) connect() error {
	log := d.log.With("part", "intent")
	if !d.cfg.InCluster() {
		d.source = fileSource{file.New(d.cfg.IntentFile, log), d.cfg.IntentFile}
		return nil
	}
	c, err := newClusterSource(d.cfg, d.log)
	if err != nil {
		return err
	}
	d.source, d.cluster = c, c
	return nil
}

func (d *Daemon) run(ctx context.Context) (err error) {
	if d.cluster != nil {
		if err := d.awaitNode(ctx); err != nil {
			return err
		}
	}
	if err := d.open(); err != nil {
		return errors.Join(err, d.close())
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.takeOver(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.syncServices(ctx) })
	g.Go(func() error { return d.serveCNI(ctx) })
	g.Go(func() error { return status.Serve(ctx, d.cfg.APISocket(), d, d.log) })
	g.Go(func() error { return d.settle(ctx) })
	g.Go(func() error { return d.upkeep(ctx) })
	return g.Wait()
}

// syncTime is how long the CNI server waits for services to be known. They are
// within milliseconds, or not for long.
const syncTime = 2 * time.Second

// serveCNI answers the plugin when services are known, so that a restart refuses no
// pod. When they are not, it has to be told why, pod by pod.
func (d *Daemon) serveCNI(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.published:
	case <-time.After(syncTime):
	}
	return d.cni.Serve(ctx, d.endpoints)
}

// awaitNode is usePodCIDRs, while the operator can ask what is waited for.
func (d *Daemon) awaitNode(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	waits, known := context.WithCancel(ctx)
	g.Go(func() error {
		err := status.Serve(waits, d.cfg.APISocket(), waiting{d}, d.log)
		if waits.Err() != nil {
			return nil // ranges that are known at once end it before it has begun
		}
		return err
	})
	g.Go(func() error {
		defer known()
		return d.usePodCIDRs(ctx, d.cluster)
	})
	return g.Wait()
}

// open builds the parts. The CNI server comes first: its lock on the node's
// state is what a second daemon stops at, before it touches anything.
func (d *Daemon) open() (err error) {
	d.routes = route.New(route.Config{
		PodCIDRs:             d.cfg.PodCIDRs,
		ClusterCIDRs:         d.cfg.ClusterCIDRs,
		Masquerade:           d.cfg.Masquerade,
		MasqueradeExclusions: d.cfg.MasqueradeExclusions,
		MTU:                  d.cfg.MTU,
	}, d.log)
	d.cni, err = server.Open(server.Config{
		Socket:   d.cfg.CNISocket(),
		RunDir:   d.cfg.RunDir,
		PodCIDRs: d.cfg.PodCIDRs,
		RestTime: restTime(d.cfg),
		MTU:      d.mtu,
		Ready:    d.Ready,
		Held:     d.source.holds,
		Logger:   d.log.With("part", "cni"),
	})
	if err != nil {
		return err
	}
	cgroupRoot := d.cfg.CgroupRoot
	if cgroupRoot == "" {
		if cgroupRoot, err = loader.FindCgroup2(); err != nil {
			return err
		}
	}
	d.loader, err = loader.Open(loader.Config{
		BPFRoot:    d.cfg.BPFRoot,
		CgroupRoot: cgroupRoot,
		Mode:       loader.Mode(d.cfg.Attach),
		Sizes:      mapSizes(d.cfg),
	}, d.log.With("part", "loader"))
	if err != nil {
		return err
	}
	if d.names, err = flow.LoadNames(); err != nil {
		return err
	}
	if d.services, err = service.NewManager(d.loader.Maps(), d.log.With("part", "service")); err != nil {
		return err
	}
	d.endpoints = endpoint.New(d.loader, d.routes, d.loader.Maps(), d.log.With("part", "endpoint"))
	d.uplink = uplink.New(d.loader, d.loader.Maps().NodeAddrs, d.log.With("part", "uplink"))
	return nil
}

// restTime: zero means the server's default, and here none at all.
func restTime(cfg *config.Config) time.Duration {
	if cfg.IPAM.RestTime.Duration == 0 {
		return -1
	}
	return cfg.IPAM.RestTime.Duration
}

func mapSizes(cfg *config.Config) map[string]uint32 {
	return map[string]uint32{
		bpf.PodMapWagFrontends1: cfg.Maps.Frontends,
		bpf.PodMapWagSlots1:     cfg.Maps.Slots,
		bpf.PodMapWagBackends1:  cfg.Maps.Backends,
		bpf.PodMapWagConntrack1: cfg.Maps.Conntrack,
		bpf.PodMapWagFragments1: cfg.Maps.Fragments,
	}
}

// takeOver puts this daemon's programs and entries in the place of those of
// the one before it.
func (d *Daemon) takeOver(ctx context.Context) error {
	if _, err := d.routes.MTU(); err != nil {
		return err
	}
	if err := d.routes.Sync(ctx); err != nil {
		return err
	}
	if err := d.endpoints.Restore(d.cni.Endpoints()); err != nil {
		// One pod's device that went is no reason to leave the others alone.
		d.problems.set("endpoint", err, "delete the pod: its device was removed while waggled was down")
		d.log.Warn("not all endpoints were restored", "error", err)
	}
	if err := d.loader.AttachSockets(); err != nil {
		return err
	}
	for _, p := range d.loader.Programs() {
		d.log.Info("attached", "program", p.Name, "hook", p.Hook, "to", p.Target, "through", p.Attach, "id", p.ID)
	}
	return d.cni.Recover(ctx, d.endpoints)
}

func (d *Daemon) close() error {
	var errs []error
	if d.loader != nil {
		errs = append(errs, d.loader.Close())
	}
	if d.cni != nil {
		errs = append(errs, d.cni.Close())
	}
	return errors.Join(errs...)
}

// mtu of a new endpoint. The route's manager answered at the start; a device
// that vanished since leaves the last answer.
func (d *Daemon) mtu() int {
	mtu, err := d.routes.MTU()
	if err != nil {
		d.log.Warn("MTU unknown, using the smallest that IPv6 allows", "error", err)
		return 1280
	}
	return mtu
}

// install puts the CNI plugin and its configuration in place: by that, the kubelet
// takes the node for ready.
func (d *Daemon) install() error {
	if !d.cfg.CNI.Install {
		return nil
	}
	return install.Install(installConfig(d.cfg))
}

func (d *Daemon) isPublished() bool {
	select {
	case <-d.published:
		return true
	default:
		return false
	}
}

// Ready implements status.Provider, and says why a pod cannot be added now.
func (d *Daemon) Ready() error {
	if !d.isPublished() {
		what, _ := d.source.missing()
		return fmt.Errorf("services are not known yet: waiting for %s", what)
	}
	return nil
}
