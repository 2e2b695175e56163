// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// shownMatches is how many ids an error about an ambiguous one lists.
const shownMatches = 5

// kind is what an id is of, and where to look such ids up.
type kind struct{ name, list string }

var (
	pods       = kind{"pod", "waggle-kube ctr pods"}
	containers = kind{"container", "waggle-kube ctr ps -a"}
	images     = kind{"image", "waggle-kube ctr images"}
)

// pick finds the id that is meant by it or by a beginning that no other id shares.
func (k kind) pick(want string, ids []string) (string, error) {
	if want == "" {
		return "", fmt.Errorf("empty id of a %s: see `%s`", k.name, k.list)
	}
	var found []string
	for _, id := range ids {
		if id == want {
			return id, nil
		}
		if strings.HasPrefix(id, want) {
			found = append(found, id)
		}
	}
	switch n := len(found); {
	case n == 0:
		return "", fmt.Errorf("no %s has an id that is or begins with %q: see `%s`", k.name, want, k.list)
	case n == 1:
		return found[0], nil
	default:
		slices.Sort(found)
		more := ""
		if n > shownMatches {
			found, more = found[:shownMatches], ", ..."
		}
		return "", fmt.Errorf("id %q is ambiguous: %d %ss have ids that begin with it (%s%s): give more of it",
			want, n, k.name, strings.Join(found, ", "), more)
	}
}

// pickAll is pick for many: each once, and nothing if one of them is wrong.
func (k kind) pickAll(want, ids []string) ([]string, error) {
	var found []string
	var errs []error
	for _, w := range want {
		id, err := k.pick(w, ids)
		if err != nil {
			errs = append(errs, err)
		} else if !slices.Contains(found, id) {
			found = append(found, id)
		}
	}
	if len(errs) != 0 {
		return nil, errors.Join(errs...)
	}
	return found, nil
}

func (c *client) listPods(ctx context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	list, err := c.runtime.ListPodSandbox(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", plain(err))
	}
	slices.SortFunc(list, func(a, b *runtimeapi.PodSandbox) int {
		return newestFirst(a.CreatedAt, b.CreatedAt, a.Id, b.Id)
	})
	return list, nil
}

func (c *client) listContainers(ctx context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	list, err := c.runtime.ListContainers(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", plain(err))
	}
	slices.SortFunc(list, func(a, b *runtimeapi.Container) int {
		return newestFirst(a.CreatedAt, b.CreatedAt, a.Id, b.Id)
	})
	return list, nil
}

// pod is the full id of a pod.
func (c *client) pod(ctx context.Context, want string) (string, error) {
	list, err := c.listPods(ctx, nil)
	if err != nil {
		return "", err
	}
	return pods.pick(want, podIDs(list))
}

// container is the full id of a container, in whatever state.
func (c *client) container(ctx context.Context, want string) (string, error) {
	list, err := c.listContainers(ctx, nil)
	if err != nil {
		return "", err
	}
	return containers.pick(want, containerIDs(list))
}

func podIDs(list []*runtimeapi.PodSandbox) []string {
	ids := make([]string, len(list))
	for i, p := range list {
		ids[i] = p.Id
	}
	return ids
}

func containerIDs(list []*runtimeapi.Container) []string {
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = c.Id
	}
	return ids
}
