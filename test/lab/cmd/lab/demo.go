// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/test/lab"
)

const (
	podsPerNode = 2
	serverPort  = 8080
	servicePort = 80
)

var serviceIPs = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")}

func newDemo(name *string) *cobra.Command {
	var topology lab.Topology
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Bring up two racks with waggled, pods and a service, and try every path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			topology.Name, topology.Client = *name, true
			return demo(cmd, topology)
		},
	}
	cmd.Flags().IntSliceVar(&topology.Racks, "racks", []int{1, 1}, "nodes in each rack")
	cmd.Flags().StringVar(&topology.BinDir, "bin", "", "folder of waggled and waggle-cni (default bin/ of this module)")
	return cmd
}

func demo(cmd *cobra.Command, topology lab.Topology) error {
	ctx := cmd.Context()
	l, err := up(ctx, topology)
	if err != nil {
		return err
	}
	pods, err := populate(ctx, l)
	if err != nil {
		return keepForInspection(ctx, l, err)
	}
	results := tryPaths(ctx, l, pods)
	if ctx.Err() != nil {
		return keepForInspection(ctx, l, context.Cause(ctx))
	}
	failed := printResults(cmd.OutOrStdout(), results)
	printHints(l, failed)
	if failed > 0 {
		return fmt.Errorf("demo: %d of %d paths failed", failed, len(results))
	}
	return nil
}

// populate turns an empty lab into a small cluster: daemons, pods, a server in
// each pod and on the client, and one service over all pods.
func populate(ctx context.Context, l *lab.Lab) ([]*lab.Pod, error) {
	if err := startDaemons(ctx, l); err != nil {
		return nil, err
	}
	pods, err := addPods(ctx, l, podsPerNode)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	for _, p := range pods {
		server, err := p.Start(ctx, "serve", self, "serve", "--as", p.String())
		if err != nil {
			return nil, err
		}
		if err := awaitServer(ctx, server, p.Do); err != nil {
			return nil, err
		}
	}
	server, err := l.Client().Start(ctx, "serve", self, "serve", "--as", "client")
	if err != nil {
		return nil, err
	}
	if err := awaitServer(ctx, server, l.Client().DoNet); err != nil {
		return nil, err
	}
	intent := l.RenderIntent(lab.Service{
		Name: "echo", ClusterIPs: serviceIPs,
		Ports: []lab.ServicePort{{Name: "http", Port: servicePort, Backends: lab.PodBackends(serverPort, pods...)}},
	})
	for _, h := range l.Nodes() {
		if err := h.WriteIntent(intent); err != nil {
			return nil, err
		}
	}
	progress("service default/echo: %v port %d, %d backends", serviceIPs, servicePort, len(pods))
	return pods, nil
}

// awaitServer waits until a server accepts connections on its own loopback.
func awaitServer(ctx context.Context, server *lab.Process, inside func(func() error) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return lab.Eventually(ctx, func() error {
		if !server.Running() {
			return fmt.Errorf("%s ended: %s", server.Name, server.Log())
		}
		return inside(func() error {
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(serverPort)))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
}
