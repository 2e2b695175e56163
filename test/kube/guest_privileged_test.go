// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package kube

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/images"
	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/machine"
)

const (
	// guestPatience is patience for an emulated machine, ten times slower.
	guestPatience = 8 * time.Minute

	guestRelease = "/opt/release/waggle-kube"
	guestPKI     = "/var/lib/waggle-kube/pki"
)

// shutdownPods are two for which a shutdown is more than a signal: one that minds none,
// and one that is to run only once.
const shutdownPods = `
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  containers:
  - {name: main, image: "` + images.Busybox + `", command: [sh, -c, "trap '' TERM; while :; do sleep 3600; done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: "` + images.Agent + `"}
`

// guest is a server on a machine of its own, as people install one.
type guest struct {
	t testing.TB
	m *machine.Machine
}

// ready waits until all processes are, and the node.
func (g *guest) ready() {
	g.t.Helper()
	g.eventually("the server", func() error {
		_, err := g.try(guestRelease, "status")
		return err
	})
	g.wait("condition=Ready", "node", "--all")
	g.eventually("the default service account", func() error {
		_, err := g.try(guestRelease, "kubectl", "get", "serviceaccount", "default")
		return err
	})
}

// container is the id of the first pod's container, with whether it runs.
func (g *guest) container() string {
	g.t.Helper()
	out, err := g.tryContainer()
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *guest) tryContainer() (string, error) {
	return g.try(guestRelease, "kubectl", "get", "pod", "first", "-o",
		"jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].ready}")
}

// processes are the server's own, with their ids.
func (g *guest) processes() string {
	g.t.Helper()
	return g.run("pgrep", "-l", "^(waggle-kube|containerd$)")
}

// leaves are the certificates that are renewed, by the names of their files.
func (g *guest) leaves() map[string]*x509.Certificate {
	g.t.Helper()
	leaves := map[string]*x509.Certificate{}
	for name := range strings.FieldsSeq(g.run("ls", guestPKI)) {
		if !strings.HasSuffix(name, ".pem") {
			continue
		}
		b, err := g.m.ReadFile(g.t.Context(), path.Join(guestPKI, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a new one that has got its name since
		}
		if err != nil {
			g.t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			g.t.Fatalf("%s holds no PEM", name)
		}
		if leaves[name], err = x509.ParseCertificate(block.Bytes); err != nil {
			g.t.Fatalf("%s: %v", name, err)
		}
	}
	if leaves["apiserver.pem"] == nil || leaves["kubelet-serving.pem"] == nil {
		g.t.Fatalf("%s has only %v", guestPKI, leaves)
	}
	return leaves
}

func (g *guest) setClock(to time.Time) {
	g.t.Helper()
	if err := g.m.SetClock(g.t.Context(), to); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) settle() {
	g.t.Helper()
	if err := g.m.Settle(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
}

// try runs a program in the machine.
func (g *guest) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(g.t.Context(), guestPatience, errors.New("not done in time"))
	defer cancel()
	return g.m.Output(ctx, args[0], args[1:]...)
}

func (g *guest) run(args ...string) string {
	g.t.Helper()
	out, err := g.try(args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *guest) kubectl(args ...string) string {
	g.t.Helper()
	return g.run(append([]string{guestRelease, "kubectl"}, args...)...)
}

// apply applies objects.
func (g *guest) apply(objects string) {
	g.t.Helper()
	const path = "/root/objects.yaml"
	if err := g.m.WriteFile(g.t.Context(), path, []byte(objects), 0o644); err != nil {
		g.t.Fatal(err)
	}
	g.kubectl("apply", "-f", path)
}

// wait waits for what kubectl wait can wait for. A node or a pod that is not there
// yet is no reason to give up.
func (g *guest) wait(condition string, what ...string) {
	g.t.Helper()
	g.eventually(strings.Join(what, " "), func() error {
		_, err := g.try(append([]string{guestRelease, "kubectl", "wait", "--for=" + condition, "--timeout=1m"}, what...)...)
		return err
	})
}

func (g *guest) eventually(what string, condition func() error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), guestPatience)
	defer cancel()
	if err := lab.Eventually(ctx, condition); err != nil {
		g.t.Fatalf("%s: %v", what, err)
	}
}

// logs shows the ends of the logs.
func (g *guest) logs() {
	for _, command := range []string{
		"journalctl -q -u waggle-kube -n 40 --no-pager",
		"tail -n 40 /var/lib/waggle-kube/log/*.log",
		guestRelease + " kubectl describe node,pod | tail -n 80",
		"systemctl --failed --no-legend --plain",
	} {
		out, err := g.try("sh", "-c", command)
		g.t.Logf("%s: %v\n%s", command, err, out)
	}
}
