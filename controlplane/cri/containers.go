// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/types"
)

var containerStates = map[runtimeapi.ContainerState]string{
	runtimeapi.ContainerState_CONTAINER_CREATED: "Created",
	runtimeapi.ContainerState_CONTAINER_RUNNING: "Running",
	runtimeapi.ContainerState_CONTAINER_EXITED:  "Exited",
	runtimeapi.ContainerState_CONTAINER_UNKNOWN: "Unknown",
}

// containerOptions are the flags of ps.
type containerOptions struct {
	all                                 bool
	pod, name, namespace, image, states string
	labels                              []string
}

func (t *tool) psCommand() *cobra.Command {
	var o containerOptions
	var out *output
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List containers, the newest first",
		Args:  takes(0, 0),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
			return t.showContainers(ctx, c, cmd, o, out)
		}),
	}
	out = addOutput(cmd, "table", "wide", "json")
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "containers in all states, not only running ones")
	f.StringVarP(&o.pod, "pod", "p", "", "only containers of the pod with this id")
	f.StringVar(&o.name, "name", "", "only containers whose name matches this regular expression")
	f.StringVar(&o.namespace, "namespace", "", "only containers of pods whose namespace matches this regular expression")
	f.StringVar(&o.image, "image", "", "only containers of images with this in their name or id")
	f.StringVarP(&o.states, "state", "s", "", "only containers in this state: created, running, exited, unknown")
	f.StringArrayVar(&o.labels, "label", nil, "only containers with this label, as key=value (repeatable)")
	cmd.MarkFlagsMutuallyExclusive("all", "state")
	cmd.PreRunE = func(*cobra.Command, []string) error { return out.check() }
	return cmd
}

func (t *tool) showContainers(ctx context.Context, c *client, cmd *cobra.Command, o containerOptions, out *output) error {
	list, err := c.selectContainers(ctx, o)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	switch {
	case out.json():
		return writeProto(w, &runtimeapi.ListContainersResponse{Containers: list})
	case out.quiet:
		return writeIDs(w, containerIDs(list))
	}
	header := []string{"CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"}
	if out.wide() {
		header = append(header, "IMAGE ID")
	}
	rows := newTable(w, header...)
	for _, x := range list {
		cells := []string{
			out.id(x.Id), imageName(x), ago(t.now(), x.CreatedAt), containerStates[x.State], x.GetMetadata().GetName(),
			strconv.FormatUint(uint64(x.GetMetadata().GetAttempt()), 10), out.id(x.PodSandboxId),
			types.GetPodName(x.Labels), types.GetPodNamespace(x.Labels),
		}
		if out.wide() {
			cells = append(cells, x.ImageRef)
		}
		rows.row(cells...)
	}
	return rows.flush()
}

func (c *client) selectContainers(ctx context.Context, o containerOptions) ([]*runtimeapi.Container, error) {
	labels, err := parseLabels(o.labels)
	if err != nil {
		return nil, err
	}
	filter := &runtimeapi.ContainerFilter{LabelSelector: labels}
	if !o.all {
		state, err := parseState(cmp.Or(o.states, "running"), containerStates)
		if err != nil {
			return nil, err
		}
		filter.State = &runtimeapi.ContainerStateValue{State: state}
	}
	name, err := pattern("name", o.name)
	if err != nil {
		return nil, err
	}
	namespace, err := pattern("namespace", o.namespace)
	if err != nil {
		return nil, err
	}
	if o.pod != "" {
		if filter.PodSandboxId, err = c.pod(ctx, o.pod); err != nil {
			return nil, err
		}
	}
	list, err := c.listContainers(ctx, filter)
	return slices.DeleteFunc(list, func(x *runtimeapi.Container) bool {
		return !name.MatchString(x.GetMetadata().GetName()) ||
			!namespace.MatchString(types.GetPodNamespace(x.Labels)) ||
			!fromImage(x, o.image)
	}), err
}

// fromImage tells whether one of the names of a container's image has this in it.
func fromImage(c *runtimeapi.Container, part string) bool {
	return slices.ContainsFunc([]string{imageName(c), c.GetImage().GetImage(), c.ImageRef}, func(name string) bool {
		return strings.Contains(name, part)
	})
}

// imageName is what the pod's author wrote: the kubelet asks for an image by its id.
func imageName(c *runtimeapi.Container) string {
	if named := c.GetImage().GetUserSpecifiedImage(); named != "" {
		return named
	}
	if id, ok := strings.CutPrefix(c.GetImage().GetImage(), "sha256:"); ok {
		return truncate(id)
	}
	return c.GetImage().GetImage()
}
