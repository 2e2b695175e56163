// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var podStates = map[runtimeapi.PodSandboxState]string{
	runtimeapi.PodSandboxState_SANDBOX_READY:    "Ready",
	runtimeapi.PodSandboxState_SANDBOX_NOTREADY: "NotReady",
}

// podOptions are the flags of pods.
type podOptions struct {
	name, namespace, state string
	labels                 []string
}

func (t *tool) podsCommand() *cobra.Command {
	var o podOptions
	var out *output
	cmd := &cobra.Command{
		Use:     "pods",
		Aliases: []string{"pod"},
		Short:   "List pods, the newest first",
		Args:    takes(0, 0),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
			return t.showPods(ctx, c, cmd, o, out)
		}),
	}
	out = addOutput(cmd, "table", "wide", "json")
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "only pods whose name matches this regular expression")
	f.StringVar(&o.namespace, "namespace", "", "only pods whose namespace matches this regular expression")
	f.StringVarP(&o.state, "state", "s", "", "only pods in this state: ready, notready")
	f.StringArrayVar(&o.labels, "label", nil, "only pods with this label, as key=value (repeatable)")
	cmd.PreRunE = func(*cobra.Command, []string) error { return out.check() }
	return cmd
}

func (t *tool) showPods(ctx context.Context, c *client, cmd *cobra.Command, o podOptions, out *output) error {
	list, err := c.selectPods(ctx, o)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	switch {
	case out.json():
		return writeProto(w, &runtimeapi.ListPodSandboxResponse{Items: list})
	case out.quiet:
		return writeIDs(w, podIDs(list))
	}
	header := []string{"POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"}
	if out.wide() {
		header = append(header, "ADDRESSES")
	}
	rows := newTable(w, header...)
	for _, p := range list {
		cells := []string{
			out.id(p.Id), ago(t.now(), p.CreatedAt), podStates[p.State], p.GetMetadata().GetName(), p.GetMetadata().GetNamespace(),
			strconv.FormatUint(uint64(p.GetMetadata().GetAttempt()), 10), cmp.Or(p.RuntimeHandler, "(default)"),
		}
		if out.wide() {
			addrs, err := c.podAddresses(ctx, p.Id)
			if gone(err) {
				continue // since the list was made
			} else if err != nil {
				return plain(err)
			}
			cells = append(cells, strings.Join(addrs, ","))
		}
		rows.row(cells...)
	}
	return rows.flush()
}

func (c *client) selectPods(ctx context.Context, o podOptions) ([]*runtimeapi.PodSandbox, error) {
	labels, err := parseLabels(o.labels)
	if err != nil {
		return nil, err
	}
	filter := &runtimeapi.PodSandboxFilter{LabelSelector: labels}
	if o.state != "" {
		state, err := parseState(o.state, podStates)
		if err != nil {
			return nil, err
		}
		filter.State = &runtimeapi.PodSandboxStateValue{State: state}
	}
	var name, namespace *regexp.Regexp
	if name, err = pattern("name", o.name); err != nil {
		return nil, err
	}
	if namespace, err = pattern("namespace", o.namespace); err != nil {
		return nil, err
	}
	list, err := c.listPods(ctx, filter)
	return slices.DeleteFunc(list, func(p *runtimeapi.PodSandbox) bool {
		return !name.MatchString(p.GetMetadata().GetName()) || !namespace.MatchString(p.GetMetadata().GetNamespace())
	}), err
}

// podAddresses are a pod's addresses, in the order of its families. A pod in the
// host's network, or one that has ended, has none.
func (c *client) podAddresses(ctx context.Context, id string) ([]string, error) {
	resp, err := c.runtime.PodSandboxStatus(ctx, id, false)
	if err != nil {
		return nil, err
	}
	network := resp.GetStatus().GetNetwork()
	if network.GetIp() == "" {
		return nil, nil
	}
	addrs := []string{network.GetIp()}
	for _, a := range network.GetAdditionalIps() {
		addrs = append(addrs, a.GetIp())
	}
	return addrs, nil
}
