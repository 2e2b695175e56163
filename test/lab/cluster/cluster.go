// SPDX-License-Identifier: Apache-2.0

// Package cluster brings a Kubernetes cluster up in a lab, for people: a node that
// their machine's shell reaches, with something to look at in it. Each step says what
// it waits for. All of it can be repeated, over whatever an earlier run left.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/waggle-net/waggle/test/lab"
)

// APIPort is where the API is served on a node's addresses.
const APIPort = 6443

// Demo is what is deployed. The zero value is nothing.
type Demo struct {
	// Archives are images: of each, NAME.tar, there is a Deployment NAME.
	Archives  []string
	Manifests []byte
	Namespace string
	NodePort  uint16 // which answers on the nodes' addresses by HTTP
}

// Options say what to bring up.
type Options struct {
	// Name is the lab's. Default "lab".
	Name string
	// BinDir is where the programs are. Default: as in lab.Topology.
	BinDir string
	// Kubeconfig is the file to write. Required.
	Kubeconfig string
	// Demo is deployed, and has to answer.
	Demo Demo
	// Proxy starts a proxy on the machine, by which images can be pulled: ProxyArgv
	// is the program for it.
	Proxy     bool
	ProxyArgv []string
	// Config holds further lines of the server's configuration.
	Config []string
	// Timeout bounds each step that waits. Required.
	Timeout time.Duration
	// Progress is told what happens. Required.
	Progress io.Writer
}

// cluster is one run of Up.
type cluster struct {
	Options
	steps
	lab   *lab.Lab
	node  *lab.Host // the server, and the only node
	fresh bool      // this run made the lab
	api   *api
	// rebuilt are the Deployments whose image is another one than at the last run.
	rebuilt []string
}

// Up brings the cluster up, or looks whether the one that runs is as it should be. A
// lab that it made is removed again if ctx ends before it has done; otherwise it stays,
// for whoever looks for the cause.
func Up(ctx context.Context, o Options) (*lab.Lab, error) {
	c := &cluster{Options: o, steps: newSteps(o.Progress)}
	unlock, err := lockFolder(o.Kubeconfig)
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = c.run(ctx)
	if err == nil {
		return c.lab, nil
	}
	switch unfit := errors.Is(err, errUnfit); {
	case c.lab == nil:
		return nil, err
	case ctx.Err() == nil && !unfit:
		c.say("lab %s stays up for you to look around: its node's files are in %s", c.lab.Name, c.node.Dir())
		return c.lab, err
	case !c.fresh:
		return c.lab, err
	}
	c.say("removing lab %s", c.lab.Name)
	return nil, errors.Join(err, lab.Down(context.WithoutCancel(ctx), c.lab.Name), RemoveKubeconfig(o.Kubeconfig))
}

func (c *cluster) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.makeLab, c.startServer,
		// The node starts meanwhile.
		c.awaitContainerd, c.importImages,
		c.awaitControlPlane, c.writeKubeconfig, c.applyDemo,
		c.awaitNode, c.awaitDemo,
	} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted: %w", context.Cause(ctx))
			}
			return err
		}
	}
	c.say("ready")
	return nil
}

// makeLab opens the lab if there is one like it, and makes it if there is none.
func (c *cluster) makeLab(ctx context.Context) error {
	want := lab.Topology{Name: c.Name, Racks: []int{1}, Machine: true, Private: lab.KubePrivate(), BinDir: c.BinDir}
	l, err := lab.Open(c.Name)
	switch {
	case err == nil && same(l.Topology, want):
		c.lab, c.node = l, l.Nodes()[0]
		if err := l.JoinMachine(ctx); err != nil {
			return err
		}
		c.say("lab %s is there already", l.Name)
		return nil
	case err == nil:
		c.say("lab %s is another one: it is replaced", l.Name)
	case !errors.Is(err, lab.ErrNotUp):
		return err
	}
	if l, err = lab.Up(ctx, want); err != nil {
		return err
	}
	c.lab, c.node, c.fresh = l, l.Nodes()[0], true
	c.say("lab %s: %s has %v, which this machine reaches by %s", l.Name, c.node.Name, c.node.Addrs(), l.MachineDevice())
	return nil
}

// same is whether a lab is what is wanted. A BinDir that is not said is the default.
func same(have, want lab.Topology) bool {
	if want.BinDir != "" && have.BinDir != want.BinDir {
		return false
	}
	return have.Machine == want.Machine && fmt.Sprint(have.Racks, have.Private) == fmt.Sprint(want.Racks, want.Private)
}

// URLs are where the demo answers.
func (d Demo) URLs(l *lab.Lab) []string {
	var urls []string
	for _, a := range l.Nodes()[0].Addrs() {
		urls = append(urls, "http://"+netip.AddrPortFrom(a, d.NodePort).String()+"/")
	}
	return urls
}
