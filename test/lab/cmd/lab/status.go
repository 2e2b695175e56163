// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/test/lab"
)

// hostStatus is the stable form of "status --json".
type hostStatus struct {
	Name      string          `json:"name"`
	Kind      lab.Kind        `json:"kind"`
	Rack      int             `json:"rack"` // -1: in none
	Addresses []netip.Addr    `json:"addresses"`
	PodCIDRs  []netip.Prefix  `json:"podCIDRs,omitempty"`
	Netns     string          `json:"netns"`
	Dir       string          `json:"dir"`
	Cgroup    string          `json:"cgroup"`
	Processes []processStatus `json:"processes"`
	Pods      []podStatus     `json:"pods"`
}

type processStatus struct {
	Name    string `json:"name"`
	Pid     int    `json:"pid"`
	Running bool   `json:"running"`
	Log     string `json:"log"`
}

type podStatus struct {
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Addresses []netip.Addr    `json:"addresses"`
	Netns     string          `json:"netns"`
	Processes []processStatus `json:"processes"`
}

func newStatus(name *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show hosts, pods and processes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			hosts, err := gather(l)
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(hosts)
			}
			return printStatus(cmd.OutOrStdout(), hosts)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func gather(l *lab.Lab) ([]hostStatus, error) {
	var hosts []hostStatus
	for _, h := range l.Hosts() {
		processes, err := h.Processes()
		if err != nil {
			return nil, err
		}
		pods, err := h.Pods()
		if err != nil {
			return nil, err
		}
		s := hostStatus{Name: h.Name, Kind: h.Kind, Rack: h.Rack, Addresses: h.Addrs(), PodCIDRs: h.PodCIDRs,
			Netns: h.NetNSPath(), Dir: h.Dir(), Cgroup: h.CgroupRoot(), Pods: []podStatus{}}
		for _, p := range pods {
			prefix := p.ContainerID + "."
			s.Pods = append(s.Pods, podStatus{p.Namespace, p.Name, p.IPs, p.NetNS, processesOf(processes, prefix)})
			processes = slices.DeleteFunc(processes, func(q *lab.Process) bool { return strings.HasPrefix(q.Name, prefix) })
		}
		s.Processes = processesOf(processes, "")
		hosts = append(hosts, s)
	}
	return hosts, nil
}

// processesOf returns the processes whose names have a prefix, without it.
func processesOf(processes []*lab.Process, prefix string) []processStatus {
	found := []processStatus{} // in JSON a list, also when empty
	for _, p := range processes {
		if name, ok := strings.CutPrefix(p.Name, prefix); ok {
			found = append(found, processStatus{name, p.Pid, p.Running(), p.LogPath})
		}
	}
	return found
}

// String is what the table shows.
func (p processStatus) String() string {
	if !p.Running {
		return p.Name + "(ended)"
	}
	return fmt.Sprintf("%s(%d)", p.Name, p.Pid)
}

func printStatus(out io.Writer, hosts []hostStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tRACK\tADDRESSES\tPOD CIDRS\tPODS\tPROCESSES")
	for _, h := range hosts {
		rack := "-"
		if h.Rack >= 0 {
			rack = fmt.Sprint(h.Rack)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", h.Name, rack, list(h.Addresses), list(h.PodCIDRs),
			len(h.Pods), list(h.Processes))
	}
	fmt.Fprintln(table, "\nPOD\tNAMESPACE\tADDRESSES\tPROCESSES")
	for _, h := range hosts {
		for _, p := range h.Pods {
			fmt.Fprintf(table, "%s/%s\t%s\t%s\t%s\n", h.Name, p.Name, p.Namespace, list(p.Addresses), list(p.Processes))
		}
	}
	return table.Flush()
}

// list joins values with commas; an empty list is a dash, so that columns stay
// parsable.
func list[T any](values []T) string {
	if len(values) == 0 {
		return "-"
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ",")
}
