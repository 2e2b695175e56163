// SPDX-License-Identifier: Apache-2.0

//go:build privileged

// Package kube tests waggle-kube as a whole: a server in a host of the lab, with real
// containers, and our datapath under them.
package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/images"
	"github.com/waggle-net/waggle/test/lab"
)

// patience is how long anything may take that is not measured. A machine of two
// processors starts a cluster in seconds; beside other work it takes longer.
const patience = 3 * time.Minute

// cluster is a server in a lab of its own.
type cluster struct {
	t    testing.TB
	host *lab.Host
	bin  string
}

// newCluster makes a host for a server, without starting one.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	return newClusterIn(t, lab.Topology{})
}

// newClusterIn is newCluster in a lab with more than a host.
func newClusterIn(t testing.TB, topology lab.Topology) *cluster {
	t.Helper()
	topology.Private = lab.KubePrivate()
	l := lab.ForTest(t, topology)
	c := &cluster{t: t, host: l.Nodes()[0], bin: l.BinDir}
	// The lab's own is for pods without a container runtime. Here waggled writes it.
	if err := os.Remove(filepath.Join(c.host.Dir(), "cni/net.d/10-waggle.conflist")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.logs()
		}
	})
	return c
}

// start starts the server, without waiting until it is ready.
func (c *cluster) start(extra ...string) *lab.Process {
	c.t.Helper()
	p, err := c.host.StartKube(c.t.Context(), extra...)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// up starts the server, waits until the node is ready, and brings the images in.
func (c *cluster) up(extra ...string) *lab.Process {
	c.t.Helper()
	p := c.start(extra...)
	c.ready()
	dir := c.t.TempDir()
	if err := images.Build(c.t.Context(), dir, images.DefaultBusybox); err != nil {
		c.t.Fatal(err)
	}
	c.kube("image", "import", filepath.Join(dir, "busybox.tar"), filepath.Join(dir, "agent.tar"))
	return p
}

// ready waits until all processes are, and the node.
func (c *cluster) ready() {
	c.t.Helper()
	c.eventually("the server", func() error {
		_, err := c.tryKube("status")
		return err
	})
	c.eventually("the node", func() error {
		out, err := c.tryKubectl("get", "node", c.host.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "True" {
			err = fmt.Errorf("Ready is %q", out)
		}
		return err
	})
	c.eventually("the default service account", func() error {
		_, err := c.tryKubectl("get", "serviceaccount", "default")
		return err
	})
}

// tryKube runs waggle-kube on the host.
func (c *cluster) tryKube(args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(c.t.Context(), patience, errors.New("not done in time"))
	defer cancel()
	return c.host.Run(ctx, filepath.Join(c.bin, "waggle-kube"), args...)
}

func (c *cluster) kube(args ...string) string {
	c.t.Helper()
	out, err := c.tryKube(args...)
	if err != nil {
		c.t.Fatalf("waggle-kube %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *cluster) tryKubectl(args ...string) (string, error) {
	return c.tryKube(append([]string{"kubectl"}, args...)...)
}

func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	return c.kube(append([]string{"kubectl"}, args...)...)
}

// apply applies a file of testdata.
func (c *cluster) apply(name string) {
	c.t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		c.t.Fatal(err)
	}
	c.kubectl("apply", "-f", path)
}

// wait waits for what kubectl wait can wait for.
func (c *cluster) wait(condition string, what ...string) {
	c.t.Helper()
	c.kubectl(append([]string{"wait", "--for=" + condition, fmt.Sprintf("--timeout=%v", patience)}, what...)...)
}

func (c *cluster) eventually(what string, condition func() error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := lab.Eventually(ctx, condition); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

// data is a path in the host's data folder, as it is seen from here.
func (c *cluster) data(path string) string {
	return filepath.Join(c.host.Dir(), "private/var/lib/waggle-kube", path)
}

// logs shows the end of each process's log.
func (c *cluster) logs() {
	for _, name := range []string{"control-plane", "node", "containerd", "waggled"} {
		text, err := os.ReadFile(c.data("log/" + name + ".log"))
		if err != nil {
			c.t.Logf("%v", err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		c.t.Logf("the end of %s.log:\n%s", name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
