// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/lab/cluster"
)

func newUp(name *string) *cobra.Command {
	var (
		topology lab.Topology
		daemons  bool
		pods     int
	)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build a lab, replacing one of the same name",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			topology.Name = *name
			if pods > 0 && !daemons {
				return fmt.Errorf("add pods: --pods-per-node needs --daemons")
			}
			l, err := up(cmd.Context(), topology)
			if err != nil {
				return err
			}
			if daemons {
				err = startDaemons(cmd.Context(), l)
			}
			if err == nil && pods > 0 {
				_, err = addPods(cmd.Context(), l, pods)
			}
			if err != nil {
				return keepForInspection(cmd.Context(), l, err)
			}
			progress("up; look around with: waggle-lab status, waggle-lab shell node1")
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&topology.Racks, "racks", []int{1, 1}, "nodes in each rack")
	flags.BoolVar(&topology.Client, "client", false, "add a client outside the cluster")
	flags.BoolVar(&topology.Machine, "machine", false, "join this machine: a device and routes to the lab (one lab at a time)")
	flags.IntVar(&topology.MTU, "mtu", 1500, "MTU of all links in bytes")
	flags.StringVar(&topology.BinDir, "bin", "", "folder of waggled and waggle-cni (default bin/ of this module)")
	flags.BoolVar(&daemons, "daemons", false, "start waggled on every node")
	flags.IntVar(&pods, "pods-per-node", 0, "pods to add to each node; needs --daemons")
	return cmd
}

func newDown(name *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a lab, or what is left of one",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{*name}
			if all {
				var err error
				if names, err = lab.Names(); err != nil {
					return err
				}
			}
			for _, n := range names {
				if err := lab.Down(cmd.Context(), n); err != nil {
					return err
				}
				if err := cluster.RemoveKubeconfig(defaultKubeconfig(n)); err != nil {
					return err
				}
				progress("lab %s is down", n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all labs")
	return cmd
}

func up(ctx context.Context, topology lab.Topology) (*lab.Lab, error) {
	l, err := lab.Up(ctx, topology)
	if err != nil {
		return nil, err
	}
	progress("lab %s: %d nodes in %d racks, router%s", l.Name, len(l.Nodes()), len(l.Racks),
		map[bool]string{true: ", client"}[l.Client() != nil])
	return l, nil
}

// startDaemons starts all at once: loading programs takes each a while.
func startDaemons(ctx context.Context, l *lab.Lab) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range l.Nodes() {
		group.Go(func() error {
			p, err := h.StartWaggled(ctx)
			if err == nil {
				progress("%s: waggled runs as process %d, log %s", h.Name, p.Pid, p.LogPath)
			}
			return err
		})
	}
	return group.Wait()
}

// addPods adds pods named pod1, pod2 and so on, numbered over all nodes.
func addPods(ctx context.Context, l *lab.Lab, perNode int) ([]*lab.Pod, error) {
	var pods []*lab.Pod
	for _, h := range l.Nodes() {
		for range perNode {
			p, err := h.AddPod(ctx, lab.PodOptions{Name: fmt.Sprintf("pod%d", len(pods)+1)})
			if err != nil {
				return nil, err
			}
			progress("%s: %v", p, p.IPs)
			pods = append(pods, p)
		}
	}
	return pods, nil
}

// keepForInspection leaves a lab running in which something did not work: that
// is where to find out. An interrupted one is removed.
func keepForInspection(ctx context.Context, l *lab.Lab, err error) error {
	if ctx.Err() != nil {
		progress("interrupted: removing lab %s", l.Name)
		if downErr := lab.Down(context.WithoutCancel(ctx), l.Name); downErr != nil {
			return downErr
		}
		return err
	}
	progress("lab %s is still up: logs are in %s/<host>/log; remove it with: waggle-lab down --name %s", l.Name, l.Dir(), l.Name)
	return err
}
