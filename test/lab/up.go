// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Up builds a lab. A leftover of the same name is torn down first. When Up fails
// or ctx ends, nothing is left; when the process is killed, Down cleans up.
func Up(ctx context.Context, t Topology) (*Lab, error) {
	t = t.withDefaults()
	if err := errors.Join(t.validate(), checkMachine()); err != nil {
		return nil, fmt.Errorf("up lab %s: %w", t.Name, err)
	}
	unlock, err := lockLab(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := down(ctx, t.Name); err != nil {
		return nil, fmt.Errorf("remove leftover: %w", err)
	}
	l := plan(t)
	if err := l.build(ctx); err != nil {
		err = fmt.Errorf("up lab %s: %w", t.Name, err)
		if cleanup := down(context.WithoutCancel(ctx), t.Name); cleanup != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", cleanup))
		}
		return nil, err
	}
	return l, nil
}

// checkMachine finds out beforehand what would otherwise fail half way.
func checkMachine() error {
	if err := requireRoot(); err != nil {
		return err
	}
	if err := checkOutside(); err != nil {
		return err
	}
	if _, err := cgroup2Mount(); err != nil {
		return err
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return fmt.Errorf("%w: install util-linux", err)
	}
	return nil
}

// step is one thing to build, and for whom: errors say both.
type step struct {
	name string
	host *Host
	run  func() error
}

// steps are what builds the lab, in this order.
func (l *Lab) steps(ctx context.Context) []step {
	var steps []step
	if l.Machine {
		steps = append(steps, step{"look at the machine's network", nil, l.checkCollisions})
	}
	steps = append(steps, step{"make state folder", nil, l.makeStateDir})
	for _, h := range l.Hosts() {
		steps = append(steps,
			step{"make folders", h, h.makeFolders},
			step{"create namespaces", h, h.createNamespaces})
	}
	steps = append(steps, step{"make bridges", l.router, inside(l.router, l.buildRouter)})
	for _, h := range l.Hosts()[1:] {
		steps = append(steps,
			step{"plug in", h, inside(l.router, func() error { return l.plugIn(h) })},
			step{"configure eth0", h, inside(h, h.configureHost)},
			step{"route pods", h, inside(l.router, func() error { return routePods(h, h.PodCIDRs) })})
	}
	// The kernel takes up to a second to use new links: all of them at the same time.
	if l.Machine {
		steps = append(steps, step{"join the machine", nil, l.joinMachine})
	}
	for _, h := range l.Hosts()[1:] {
		steps = append(steps, step{"reach router", h, func() error { return h.awaitGateways(ctx) }})
	}
	if l.Machine {
		steps = append(steps, step{"reach router from the machine", nil, func() error { return l.awaitMachine(ctx) }})
	}
	return append(steps, step{"save state", nil, l.saveState})
}

func (l *Lab) build(ctx context.Context) error {
	for _, s := range l.steps(ctx) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.run(); err != nil {
			if s.host != nil {
				return fmt.Errorf("%s: %s: %w", s.host.Name, s.name, err)
			}
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func inside(h *Host, fn func() error) func() error {
	return func() error { return h.DoNet(fn) }
}

// makeStateDir mounts the lab's tmpfs. It is private, because a mount namespace
// can only be bound where mounts do not propagate to itself.
func (l *Lab) makeStateDir() error {
	dir := labDir(l.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("waggle-lab", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make tmpfs private: %w", err)
	}
	return os.Mkdir(nsDir(l.Name), 0o755)
}

func (h *Host) makeFolders() error {
	for _, folder := range hostFolders {
		if err := os.MkdirAll(filepath.Join(h.Dir(), folder), 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(h.CgroupRoot(), "pods"), 0o755), os.MkdirAll(h.processCgroup(), 0o755)); err != nil {
		return err
	}
	if err := unix.Mount("bpf", h.BPFRoot(), "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	// Shared with the host's own mount namespace, see createNamespaces.
	if err := unix.Mount(h.PodNetNSDir(), h.PodNetNSDir(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind pod namespace folder: %w", err)
	}
	if err := unix.Mount("", h.PodNetNSDir(), "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share pod namespace folder: %w", err)
	}
	return h.writeConflist()
}

// awaitGateways waits until the router answers in both families: a bridge port
// forwards a moment after its link is up.
func (h *Host) awaitGateways(ctx context.Context) error {
	return awaitRouters(ctx, h.segment, h.DoNet)
}

// awaitRouters waits until the router answers who is on one of its links, and asks
// from there.
func awaitRouters(ctx context.Context, seg segment, from func(func() error) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no answer in 10s"))
	defer cancel()
	var last error
	err := poll(ctx, 10*time.Millisecond, func() (bool, error) {
		last = from(func() error { return dialRouters(seg) })
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}

// dialRouters asks the router's addresses on a link. To be refused is the answer
// hoped for: nothing listens on the router.
func dialRouters(seg segment) error {
	for _, router := range []netip.Addr{seg.router4, seg.router6} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(router.String(), "9"), 100*time.Millisecond)
		if err == nil {
			err = conn.Close()
		}
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	return nil
}
