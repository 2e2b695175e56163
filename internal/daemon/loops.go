// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waggle-net/waggle/datapath/endpoint"
	"github.com/waggle-net/waggle/internal/status"
)

// settleAfter is how long no pod may have been added before the new ones'
// programs are settled: meanwhile the kernel's lock on network configuration is
// for the pods that wait.
const settleAfter = 2 * time.Second

// settle attaches the programs of new endpoints to stay, one after the other,
// whenever no pod is being added. Upkeep does the same if that never is.
func (d *Daemon) settle(ctx context.Context) error {
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.endpoints.Added():
			quiet = time.After(settleAfter)
		case <-quiet:
			quiet = nil
			if !d.settleAll() {
				quiet = time.After(settleAfter)
			}
		}
	}
}

// settleAll returns false where it was interrupted by a new pod.
func (d *Daemon) settleAll() (done bool) {
	done = true
	d.cni.EachReady(func(s *endpoint.Spec) {
		select {
		case <-d.endpoints.Added():
			done = false
		default:
		}
		if !done {
			return
		}
		if err := d.endpoints.Settle(s); err != nil {
			d.log.Warn("settling", "pod", s.PodNamespace+"/"+s.PodName, "device", s.HostIfName, "error", err)
		}
	})
	return done
}

// upkeep compares the kernel with what it should hold, and mends it.
func (d *Daemon) upkeep(ctx context.Context) error {
	tick := time.NewTicker(upkeepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.mend(ctx)
		}
	}
}

func (d *Daemon) mend(ctx context.Context) {
	d.problems.set("route", d.routes.Sync(ctx), triedAgain)
	d.problems.set("uplink", d.uplink.Sync(), triedAgain)
	if d.isPublished() {
		drift, err := d.services.Repair()
		for _, e := range drift {
			d.log.Warn("repaired", "part", "service", "found", e)
		}
		d.problems.set("service", err, triedAgain)
	}
	d.mendEndpoints()
	d.problems.set("flows", d.loader.Maps().SweepFlows(), "expired flows stay in the table until it is full")
	if err := d.loader.CheckSockets(); err != nil {
		d.log.Warn("repairing", "part", "socket", "found", err)
		d.problems.set("socket", d.loader.AttachSockets(), "services do not work at the socket; per packet they do")
	}
}

func (d *Daemon) mendEndpoints() {
	var errs []error
	d.cni.EachReady(func(s *endpoint.Spec) {
		found, err := d.endpoints.Repair(s)
		err = errors.Join(err, d.endpoints.Settle(s))
		if found != nil {
			d.log.Warn("repaired", "part", "endpoint", "pod", s.PodNamespace+"/"+s.PodName, "device", s.HostIfName, "found", found)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint %d of %s/%s: %w", s.ID, s.PodNamespace, s.PodName, err))
		}
	})
	d.problems.set("endpoint", errors.Join(errs...), "delete the pod if its device is gone")
}

// problems are what the operator should know, by part. The zero value is none.
type problems struct {
	mu     sync.Mutex
	byPart map[string]status.Problem
}

// set records the newest state of a part: nil clears it.
func (p *problems) set(part string, err error, remedy string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.byPart, part)
		return
	}
	if p.byPart == nil {
		p.byPart = make(map[string]status.Problem)
	}
	p.byPart[part] = status.Problem{Component: part, Message: err.Error(), Remedy: remedy}
}
