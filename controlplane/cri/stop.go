// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// atOnce is how many pods are taken down at the same time: each runs programs.
const atOnce = 16

// restarted is what whoever stops a thing here should know.
const restarted = "The kubelet starts again what it still wants to run: delete the pod in the API to be rid of it."

func (t *tool) stopCommand() *cobra.Command {
	var seconds int64
	cmd := &cobra.Command{
		Use:   "stop CONTAINER...",
		Short: "Stop running containers",
		Long:  "Stop running containers.\n\n" + restarted,
		Args:  takes(1, -1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			if seconds < 0 {
				return fmt.Errorf("--timeout %d: want seconds, or 0 to kill at once", seconds)
			}
			list, err := c.listContainers(ctx, nil)
			if err != nil {
				return err
			}
			ids, err := containers.pickAll(args, containerIDs(list))
			if err != nil {
				return err
			}
			return end(cmd, "stop container", ids, len(ids), func(id string) error {
				return c.runtime.StopContainer(ctx, id, seconds)
			})
		}),
	}
	cmd.Flags().Int64VarP(&seconds, "timeout", "t", 10, "seconds that they have to end by themselves; 0 kills at once")
	return cmd
}

func (t *tool) stopPodCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stopp POD...",
		Short: "Stop pods: kill their containers, and take their network down",
		Long:  "Stop pods: kill their containers, and take their network down.\n\n" + restarted,
		Args:  takes(1, -1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			list, err := c.listPods(ctx, nil)
			if err != nil {
				return err
			}
			ids, err := pods.pickAll(args, podIDs(list))
			if err != nil {
				return err
			}
			return end(cmd, "stop pod", ids, atOnce, func(id string) error { return c.runtime.StopPodSandbox(ctx, id) })
		}),
	}
}

// removeOptions are the flags of rm and rmp.
type removeOptions struct{ all, force bool }

func (o *removeOptions) add(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "all "+what)
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "also those that run: stop them first, at once")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if o.all == (len(args) != 0) {
			return errors.New("name " + what + ", or use --all")
		}
		return nil
	}
}

func (t *tool) removeCommand() *cobra.Command {
	var o removeOptions
	cmd := &cobra.Command{
		Use:   "rm [--all | CONTAINER...]",
		Short: "Remove containers that do not run",
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			list, err := c.listContainers(ctx, nil)
			if err != nil {
				return err
			}
			running := map[string]bool{}
			for _, x := range list {
				running[x.Id] = x.State == runtimeapi.ContainerState_CONTAINER_RUNNING
			}
			ids := containerIDs(list)
			if !o.all {
				if ids, err = containers.pickAll(args, ids); err != nil {
					return err
				}
			}
			return end(cmd, "remove container", ids, atOnce, func(id string) error {
				if running[id] && !o.force {
					return errors.New("it runs: stop it first, or use --force")
				}
				return c.runtime.RemoveContainer(ctx, id) // which kills it
			})
		}),
	}
	o.add(cmd, "containers")
	return cmd
}

func (t *tool) removePodCommand() *cobra.Command {
	var o removeOptions
	cmd := &cobra.Command{
		Use:   "rmp [--all | POD...]",
		Short: "Remove pods that are stopped, with their containers",
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			list, err := c.listPods(ctx, nil)
			if err != nil {
				return err
			}
			ready := map[string]bool{}
			for _, p := range list {
				ready[p.Id] = p.State == runtimeapi.PodSandboxState_SANDBOX_READY
			}
			ids := podIDs(list)
			if !o.all {
				if ids, err = pods.pickAll(args, ids); err != nil {
					return err
				}
			}
			return end(cmd, "remove pod", ids, atOnce, func(id string) error {
				if ready[id] && !o.force {
					return errors.New("it is ready: stop it first with stopp, or use --force")
				}
				if err := c.runtime.StopPodSandbox(ctx, id); err != nil && !gone(err) {
					return err // its network must be taken down first
				}
				return c.runtime.RemovePodSandbox(ctx, id)
			})
		}),
	}
	o.add(cmd, "pods")
	return cmd
}

// end ends things at the same time, and prints those that went. One that is not there
// any more counts as one that went.
func end(cmd *cobra.Command, verb string, ids []string, limit int, f func(id string) error) error {
	var errs []error
	for i, err := range each(ids, limit, f) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", verb, ids[i], err))
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), ids[i])
	}
	return errors.Join(errs...)
}

// each calls f for every id, for so many at the same time, and returns its errors in
// the order of the ids.
func each(ids []string, limit int, f func(id string) error) []error {
	errs := make([]error, len(ids))
	var wait sync.WaitGroup
	turn := make(chan struct{}, max(limit, 1))
	for i, id := range ids {
		turn <- struct{}{}
		wait.Go(func() {
			defer func() { <-turn }()
			if err := f(id); err != nil && !gone(err) {
				errs[i] = plain(err)
			}
		})
	}
	wait.Wait()
	return errs
}

func (t *tool) stopAllCommand() *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use:    "stop-all",
		Short:  "Stop all pods of this node",
		Args:   takes(0, 0),
		Hidden: true, // it belongs to `waggle-kube stop --all`, for the kubelet must have ended
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := StopPods(cmd.Context(), t.layout, grace)
			if n != 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "Pods stopped: %d\n", n)
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", 10*time.Second, "how long containers have to end by themselves")
	return cmd
}
