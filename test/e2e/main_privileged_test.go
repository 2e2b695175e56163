// SPDX-License-Identifier: Apache-2.0

//go:build privileged

// Package e2e tests the datapath across hosts: in the lab, with real daemons,
// real pods (namespaces made through libcni) and real packets.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/test/lab"
)

const agentEnv = "WAGGLE_E2E_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(agentEnv) != "" {
		if err := agent(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// port of the echo servers.
const port = 8080

// commander is where an agent can run: in a pod or on a host.
type commander interface {
	fmt.Stringer
	command(t *testing.T, args ...string) *exec.Cmd
}

type onPod struct{ *lab.Pod }

func (p onPod) command(t *testing.T, args ...string) *exec.Cmd {
	return p.Command(t.Context(), "env", append([]string{agentEnv + "=1", self(t)}, args...)...)
}

type onHost struct{ *lab.Host }

func (h onHost) String() string { return h.Name }

func (h onHost) command(t *testing.T, args ...string) *exec.Cmd {
	return h.Command(t.Context(), "env", append([]string{agentEnv + "=1", self(t)}, args...)...)
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// background starts an agent, waits for its first line, and gives it back with
// its further output.
func background(t *testing.T, c commander, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := c.command(t, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // may have ended
			_ = cmd.Wait()
		}
	})
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil {
		_ = cmd.Wait()
		t.Fatalf("%s: %v did not start: %v, %s%s", c, args, err, line, errs.String())
	}
	return cmd, r
}

// serve runs an echo server.
func serve(t *testing.T, c commander) {
	t.Helper()
	background(t, c, "echo", fmt.Sprint(port))
}

// asks has an agent ask an address, once.
func asks(t *testing.T, c commander, mode, to string) answer {
	t.Helper()
	cmd := c.command(t, "ask", mode, to)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s asks %s: %v: %s", c, to, err, errs.String())
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%s asks %s: %v in %q", c, to, err, out)
	}
	return a
}

// long is a flow that an agent keeps busy.
type long struct {
	name string
	cmd  *exec.Cmd
	out  *bufio.Reader
}

func flows(t *testing.T, c commander, mode, to string) *long {
	t.Helper()
	cmd, out := background(t, c, "flow", mode, to)
	return &long{fmt.Sprintf("%s to %s by %s", c, to, mode), cmd, out}
}

// end stops the flow and fails where anything of it was lost.
func (l *long) end(t *testing.T) {
	t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", l.name, err)
	}
	var r flowReport
	if err := json.NewDecoder(l.out).Decode(&r); err != nil {
		t.Fatalf("%s: %v", l.name, err)
	}
	if err := l.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", l.name, err)
	}
	if r.Error != "" || r.Sent != r.Received || r.Sent == 0 {
		t.Errorf("%s: %d sent, %d answered, error %q", l.name, r.Sent, r.Received, r.Error)
	}
	t.Logf("%s: %d answered, longest silence %d ms", l.name, r.Received, r.Longest)
}

// nodes brings up a lab with a daemon on each node.
func nodes(t *testing.T, topology lab.Topology, config ...string) *lab.Lab {
	t.Helper()
	l := lab.ForTest(t, topology)
	for _, h := range l.Nodes() {
		start(t, h, config...)
	}
	return l
}

func start(t *testing.T, h *lab.Host, config ...string) *lab.Process {
	t.Helper()
	p, err := h.StartWaggled(t.Context(), config...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends the node's daemon as nothing can prevent, and waits until it is gone.
func kill(t *testing.T, h *lab.Host) {
	t.Helper()
	p, err := h.Process("waggled")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := eventually(t, func() error {
		if p.Running() {
			return fmt.Errorf("process %d still runs", p.Pid)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func addPod(t *testing.T, h *lab.Host, name string) *lab.Pod {
	t.Helper()
	p, err := h.AddPod(t.Context(), lab.PodOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// daemonStatus is what waggle status shows.
func daemonStatus(t *testing.T, h *lab.Host) *status.Status {
	t.Helper()
	c := status.Client{Socket: filepath.Join(h.Dir(), "run/waggled.sock")}
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counter reads one counter of a node, such as from_pod/delivered.
func counter(t *testing.T, h *lab.Host, name string) (packets uint64) {
	t.Helper()
	for _, c := range daemonStatus(t, h).Counters {
		if c.Hook+"/"+c.Name == name {
			packets += c.Packets
		}
	}
	return packets
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// ofFamily picks the address of the family of another.
func ofFamily(list []netip.Addr, like netip.Addr) netip.Addr {
	for _, a := range list {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// applyIntent gives the nodes their services and waits until each has them.
func applyIntent(t *testing.T, l *lab.Lab, services ...lab.Service) {
	t.Helper()
	intent := l.RenderIntent(services...)
	for _, h := range l.Nodes() {
		if err := h.WriteIntent(intent); err != nil {
			t.Fatal(err)
		}
	}
	want := 0
	for _, s := range services {
		want += len(s.ClusterIPs) * len(s.Ports)
	}
	for _, h := range l.Nodes() {
		err := eventually(t, func() error {
			s := daemonStatus(t, h)
			if got := len(s.Services); got != want || !s.Ready {
				return fmt.Errorf("%s has %d frontends of %d, ready %v: %s", h.Name, got, want, s.Ready, problemText(s))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// patience is how long anything may take that is not measured.
const patience = 30 * time.Second

// eventually waits for a condition, and fails with what it last lacked.
func eventually(t *testing.T, condition func() error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return lab.Eventually(ctx, condition)
}

func problemText(s *status.Status) string {
	var b strings.Builder
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "%s: %s; ", p.Component, p.Message)
	}
	return b.String()
}
