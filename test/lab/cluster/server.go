// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/lab/proxy"
)

// stopGrace is how long a server may take to end: its etcd writes what it has.
const stopGrace = time.Minute

// serviceCIDRs are waggle-kube's default, which nobody asks a proxy for.
var serviceCIDRs = []string{"10.96.0.0/16", "fd00:10:96::/112"}

func (c *cluster) kubeOptions() lab.KubeOptions {
	o := lab.KubeOptions{Config: c.Config}
	if !c.Proxy {
		return o
	}
	o.Proxy = "http://" + netip.AddrPortFrom(c.lab.MachineAddrs()[0], proxy.Port).String()
	o.NoProxy = append([]string{"localhost", "127.0.0.0/8", "::1", ".svc", ".cluster.local"}, serviceCIDRs...)
	for _, p := range c.lab.Prefixes() {
		o.NoProxy = append(o.NoProxy, p.String())
	}
	return o
}

// startServer starts waggle-kube if it does not run, and again if it runs with other
// programs or settings than those of now. Pods run on meanwhile.
func (c *cluster) startServer(ctx context.Context) error {
	options := c.kubeOptions()
	changed, err := c.node.PrepareKube(options)
	if err != nil {
		return err
	}
	if err := c.startProxy(ctx); err != nil {
		return err
	}
	p, err := c.node.Process(lab.KubeProcess)
	if err == nil && p.Running() {
		why := "its settings have changed"
		if !changed {
			why = c.replaced(ctx, p)
		}
		if why == "" {
			c.say("waggle-kube runs already")
			return nil
		}
		c.say("restarting waggle-kube, for %s: pods stay", why)
		if err := p.Stop(stopGrace); err != nil {
			return err
		}
	} else if err := c.check(ctx); err != nil {
		return err
	}
	if p, err = c.node.RunKube(ctx, options); err != nil {
		return err
	}
	c.say("waggle-kube runs as process %d, log %s", p.Pid, p.LogPath)
	return nil
}

// replaced says which of the running programs is another one in bin/ by now, or nothing.
func (c *cluster) replaced(ctx context.Context, supervisor *lab.Process) string {
	pids := []int{supervisor.Pid}
	if s, err := c.status(ctx); err == nil {
		for _, child := range s.Children {
			pids = append(pids, child.PID)
		}
	}
	for _, pid := range pids {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // gone: it is started anyway
		if program, ok := strings.CutSuffix(exe, " (deleted)"); ok {
			return filepath.Base(program) + " was built anew"
		}
	}
	return ""
}

// ignoredChecks are about machines that lend the node their network, too.
var ignoredChecks = []string{"network managers", "forwarding", "firewall", "disk speed"}

// errUnfit needs no lab to look around in.
var errUnfit = errors.New("this machine cannot run the cluster yet: what fails says what to change")

// check asks waggle-kube whether this machine will do, before anything is started.
func (c *cluster) check(ctx context.Context) error {
	cmd := c.node.KubeCommand(ctx, "check")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return fmt.Errorf("%w:\n%s%s", errUnfit, out.String(), strings.TrimSpace(errs.String()))
	}
	if err != nil {
		return fmt.Errorf("check the machine: %w", err)
	}
	c.say("waggle-kube check: this machine will do")
	for _, w := range warnings(out.String()) {
		c.say("  %s", w)
	}
	return nil
}

// warnings are those of a check's table that matter in a lab, each with its remedy.
func warnings(table string) []string {
	var found []string
	keep := false
	for line := range strings.Lines(table) {
		line = strings.TrimRight(line, "\n")
		text := strings.TrimSpace(line)
		if remedy, ok := strings.CutPrefix(text, "-> "); ok {
			if keep {
				found[len(found)-1] += " (" + remedy + ")"
			}
			continue
		}
		text, keep = strings.CutPrefix(line, "warn ")
		text = strings.TrimSpace(text)
		for _, name := range ignoredChecks {
			keep = keep && !strings.HasPrefix(text, name+" ")
		}
		if keep {
			found = append(found, "warning: "+strings.Join(strings.Fields(text), " "))
		}
	}
	return found
}

// proxyProcess is the proxy's name among the router's processes.
const proxyProcess = "proxy"

func (c *cluster) startProxy(ctx context.Context) error {
	p, err := c.lab.Router().Process(proxyProcess)
	running := err == nil && p.Running()
	switch {
	case !c.Proxy && running:
		c.say("stopping the proxy")
		return p.Stop(stopGrace)
	case !c.Proxy || running:
		return nil
	}
	if p, err = c.lab.StartOutside(ctx, proxyProcess, c.ProxyArgv...); err != nil {
		return err
	}
	address := netip.AddrPortFrom(c.lab.MachineAddrs()[0], proxy.Port).String()
	err = c.await(ctx, "the proxy", c.Timeout, func(context.Context) error {
		if !p.Running() {
			return fmt.Errorf("start proxy: it ended: %s", lastLines(p.LogPath, 5))
		}
		return dial(address)
	})
	if err == nil {
		c.say("the proxy listens at %s, log %s", address, p.LogPath)
	}
	return err
}
