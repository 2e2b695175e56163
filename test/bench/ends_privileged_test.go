// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/waggle-net/waggle/test/lab"
)

// addService leads to one backend, for TCP and UDP, under the backend's ports.
func addService(b *testing.B, h *lab.Host, backend *lab.Pod) []netip.Addr {
	b.Helper()
	s := lab.Service{Name: "bench", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")}}
	for _, p := range []struct {
		proto string
		port  uint16
	}{{"TCP", streamPort}, {"TCP", echoPort}, {"TCP", closePort}, {"UDP", echoPort}} {
		s.Ports = append(s.Ports, lab.ServicePort{Name: fmt.Sprintf("p%d-%s", p.port, map[string]string{"TCP": "t", "UDP": "u"}[p.proto]),
			Protocol: p.proto, Port: p.port, Backends: lab.PodBackends(p.port, backend)})
	}
	if err := h.WriteIntent(h.Lab().RenderIntent(s)); err != nil {
		b.Fatal(err)
	}
	waitFor(b, func() error {
		st, err := daemonStatus(b.Context(), h)
		if err != nil {
			return err
		}
		if want := len(s.Ports) * len(s.ClusterIPs); len(st.Services) != want {
			return fmt.Errorf("%d frontends, want %d", len(st.Services), want)
		}
		return nil
	})
	return s.ClusterIPs
}

func port(mode string) uint16 {
	switch mode {
	case "stream":
		return streamPort
	case "crr":
		return closePort
	}
	return echoPort
}

func inCgroup(p *lab.Pod) func(context.Context, ...string) *exec.Cmd {
	return func(ctx context.Context, args ...string) *exec.Cmd { return p.Command(ctx, args[0], args[1:]...) }
}

func outOfCgroup(netns string) func(context.Context, ...string) *exec.Cmd {
	return func(ctx context.Context, args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + netns, "--"}, args...)...)
	}
}

// generatorArgs start this test binary as a load generator. The runtime must not
// interrupt threads that it cannot know to be in a system call.
func generatorArgs(b *testing.B, args ...any) []string {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	argv := []string{"env", generatorEnv + "=1", "GODEBUG=asyncpreemptoff=1", exe}
	for _, a := range args {
		argv = append(argv, fmt.Sprint(a))
	}
	return argv
}

// serveAll starts the servers, each once, and returns how to stop them.
func serveAll(b *testing.B, paths []path, cpu int) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var running []*exec.Cmd
	for _, p := range paths[:2] { // the others lead to the same server
		cmd := p.server(ctx, generatorArgs(b, "serve", cpu)...)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			running = append(running, cmd)
			_, err = bufio.NewReader(out).ReadString('\n')
		}
		if err != nil {
			cancel()
			b.Fatalf("serve at the end of path %s: %v", p.name, err)
		}
	}
	return func() {
		cancel()
		for _, cmd := range running {
			_ = cmd.Wait() // it was killed
		}
	}
}

func measure(b *testing.B, p path, mode string, to netip.AddrPort, workers int) load {
	b.Helper()
	if p.before != nil {
		defer p.before()()
	}
	return runClient(b, p, mode, to, workers)
}

func runClient(b *testing.B, p path, mode string, to netip.AddrPort, workers int) load {
	b.Helper()
	cmd := p.client(b.Context(), generatorArgs(b, mode, to, clientCPU, workers, *slice)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("path %s: %v: %s", p.name, err, errs.String())
	}
	var l load
	if err := json.Unmarshal(out, &l); err != nil {
		b.Fatalf("path %s: %v in %q", p.name, err, out)
	}
	return l
}
