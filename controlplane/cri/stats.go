// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/types"
)

// statsOptions are the flags of stats and statsp.
type statsOptions struct {
	pod    string
	period time.Duration
}

func (t *tool) statsCommand() *cobra.Command {
	var o statsOptions
	var out *output
	cmd := &cobra.Command{
		Use:   "stats [CONTAINER]",
		Short: "Print what running containers use",
		Args:  takes(0, 1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			filter := &runtimeapi.ContainerStatsFilter{}
			var err error
			if o.pod != "" {
				if filter.PodSandboxId, err = c.pod(ctx, o.pod); err != nil {
					return err
				}
			}
			if len(args) == 1 {
				if filter.Id, err = c.container(ctx, args[0]); err != nil {
					return err
				}
			}
			return t.showStats(ctx, c, cmd, filter, o.period, out)
		}),
	}
	out = addOutput(cmd, "table", "wide", "json")
	cmd.Flags().StringVarP(&o.pod, "pod", "p", "", "only containers of the pod with this id")
	o.addPeriod(cmd, out)
	return cmd
}

func (t *tool) podStatsCommand() *cobra.Command {
	var o statsOptions
	var out *output
	cmd := &cobra.Command{
		Use:   "statsp [POD]",
		Short: "Print what pods use",
		Args:  takes(0, 1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			filter := &runtimeapi.PodSandboxStatsFilter{}
			var err error
			if len(args) == 1 {
				if filter.Id, err = c.pod(ctx, args[0]); err != nil {
					return err
				}
			}
			return t.showPodStats(ctx, c, cmd, filter, o.period, out)
		}),
	}
	out = addOutput(cmd, "table", "wide", "json")
	o.addPeriod(cmd, out)
	return cmd
}

func (o *statsOptions) addPeriod(cmd *cobra.Command, out *output) {
	cmd.Flags().DurationVar(&o.period, "period", time.Second, "how long to measure the use of CPU")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if o.period <= 0 {
			return fmt.Errorf("--period %s: want more than none", o.period)
		}
		return out.check()
	}
}

func (t *tool) showStats(ctx context.Context, c *client, cmd *cobra.Command, f *runtimeapi.ContainerStatsFilter, period time.Duration, out *output) error {
	before, err := c.containerStats(ctx, f)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	switch {
	case out.json():
		return writeProto(w, &runtimeapi.ListContainerStatsResponse{Stats: before})
	case out.quiet:
		for _, s := range before {
			fmt.Fprintln(w, s.GetAttributes().GetId())
		}
		return nil
	}
	if err := t.pause(ctx, period); err != nil {
		return err
	}
	after, err := c.containerStats(ctx, f)
	if err != nil {
		return err
	}
	past := make(map[string]*runtimeapi.CpuUsage, len(before))
	for _, s := range before {
		past[s.GetAttributes().GetId()] = s.Cpu
	}
	rows := newTable(w, "CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES", "SWAP", "POD", "NAMESPACE")
	for _, s := range after {
		a := s.GetAttributes()
		rows.row(out.id(a.GetId()), a.GetMetadata().GetName(), cpuPercent(past[a.GetId()], s.Cpu),
			size(s.GetMemory().GetWorkingSetBytes().GetValue()), size(s.GetWritableLayer().GetUsedBytes().GetValue()),
			strconv.FormatUint(s.GetWritableLayer().GetInodesUsed().GetValue(), 10), size(s.GetSwap().GetSwapUsageBytes().GetValue()),
			types.GetPodName(a.GetLabels()), types.GetPodNamespace(a.GetLabels()))
	}
	return rows.flush()
}

func (t *tool) showPodStats(ctx context.Context, c *client, cmd *cobra.Command, f *runtimeapi.PodSandboxStatsFilter, period time.Duration, out *output) error {
	before, err := c.podStats(ctx, f)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	switch {
	case out.json():
		return writeProto(w, &runtimeapi.ListPodSandboxStatsResponse{Stats: before})
	case out.quiet:
		for _, s := range before {
			fmt.Fprintln(w, s.GetAttributes().GetId())
		}
		return nil
	}
	if err := t.pause(ctx, period); err != nil {
		return err
	}
	after, err := c.podStats(ctx, f)
	if err != nil {
		return err
	}
	past := make(map[string]*runtimeapi.CpuUsage, len(before))
	for _, s := range before {
		past[s.GetAttributes().GetId()] = s.GetLinux().GetCpu()
	}
	rows := newTable(w, "POD ID", "NAME", "NAMESPACE", "CPU %", "MEM", "PROCESSES", "RX", "TX")
	for _, s := range after {
		a, l := s.GetAttributes(), s.GetLinux()
		nic := l.GetNetwork().GetDefaultInterface()
		rows.row(out.id(a.GetId()), a.GetMetadata().GetName(), a.GetMetadata().GetNamespace(),
			cpuPercent(past[a.GetId()], l.GetCpu()), size(l.GetMemory().GetWorkingSetBytes().GetValue()),
			strconv.FormatUint(l.GetProcess().GetProcessCount().GetValue(), 10),
			size(nic.GetRxBytes().GetValue()), size(nic.GetTxBytes().GetValue()))
	}
	return rows.flush()
}

func (c *client) containerStats(ctx context.Context, f *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	list, err := c.runtime.ListContainerStats(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("ask what containers use: %w", plain(err))
	}
	slices.SortFunc(list, func(a, b *runtimeapi.ContainerStats) int {
		return cmp.Compare(a.GetAttributes().GetId(), b.GetAttributes().GetId())
	})
	return list, nil
}

func (c *client) podStats(ctx context.Context, f *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	list, err := c.runtime.ListPodSandboxStats(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("ask what pods use: %w", plain(err))
	}
	slices.SortFunc(list, func(a, b *runtimeapi.PodSandboxStats) int {
		return cmp.Compare(a.GetAttributes().GetId(), b.GetAttributes().GetId())
	})
	return list, nil
}

// cpuPercent is the use of one CPU between two samples. It is empty for what was not
// there at the first, or started again since.
func cpuPercent(before, after *runtimeapi.CpuUsage) string {
	if before == nil || after == nil || after.Timestamp <= before.Timestamp {
		return ""
	}
	was, is := before.GetUsageCoreNanoSeconds().GetValue(), after.GetUsageCoreNanoSeconds().GetValue()
	if is < was {
		return ""
	}
	return strconv.FormatFloat(100*float64(is-was)/float64(after.Timestamp-before.Timestamp), 'f', 2, 64)
}
