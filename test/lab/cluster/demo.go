// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// applyDemo applies the manifests, and has what runs from an image that was built anew
// replaced, one pod after another.
func (c *cluster) applyDemo(ctx context.Context) error {
	if len(c.Demo.Manifests) == 0 {
		return nil
	}
	// What the manifests say counts, whoever has changed it since.
	err := c.await(ctx, "the demo's objects", c.Timeout, func(ctx context.Context) error {
		return c.kubectl(ctx, c.Demo.Manifests, "apply", "--server-side", "--force-conflicts", "--field-manager=waggle-lab", "-f", "-")
	})
	if err != nil {
		return err
	}
	c.say("applied the demo's manifests")
	for _, name := range c.rebuilt {
		if err := c.kubectl(ctx, nil, "rollout", "restart", "deployment/"+name, "-n", c.Demo.Namespace); err != nil {
			return err
		}
		c.say("%s has a new image: its pods are replaced", name)
	}
	return nil
}

// kubectl is pending if it fails: a young API server refuses now and then.
func (c *cluster) kubectl(ctx context.Context, stdin []byte, args ...string) error {
	cmd := c.node.KubeCommand(ctx, append([]string{"kubectl"}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return pendingf("kubectl %s: %v: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// condition is one of an object's status.
type condition struct {
	Type, Status, Reason, Message string
}

// awaitNode waits until pods can run on the node, and tells the router where they are.
func (c *cluster) awaitNode(ctx context.Context) error {
	if err := c.awaitProcess(ctx, ""); err != nil {
		return err
	}
	err := c.await(ctx, "node "+c.node.Name, c.Timeout, func(ctx context.Context) error {
		var node struct {
			Spec   struct{ PodCIDRs []netip.Prefix }
			Status struct{ Conditions []condition }
		}
		if err := c.api.get(ctx, "/api/v1/nodes/"+c.node.Name, &node); err != nil {
			return err
		}
		i := slices.IndexFunc(node.Status.Conditions, func(c condition) bool { return c.Type == "Ready" })
		switch {
		case i < 0:
			return pendingf("it has not said how it is")
		case node.Status.Conditions[i].Status != "True":
			return pendingf("not ready: %s", node.Status.Conditions[i].Message)
		}
		return c.node.RoutePods(node.Spec.PodCIDRs...)
	})
	if err != nil {
		return fmt.Errorf("%w\nwaggle-kube's logs: %s", err, c.outside("/var/lib/waggle-kube/log"))
	}
	c.say("node %s is ready", c.node.Name)
	return nil
}

// awaitDemo waits until the demo answers the machine through its service, at each of
// the node's addresses.
func (c *cluster) awaitDemo(ctx context.Context) error {
	if c.Demo.NodePort == 0 {
		return nil
	}
	client := newClient(nil)
	for _, url := range c.Demo.URLs(c.lab) {
		err := c.await(ctx, "the demo", c.Timeout, func(ctx context.Context) error {
			_, err := fetch(ctx, client, url)
			if err == nil {
				return nil
			}
			if why := c.pods(ctx); why != "" {
				return pendingf("%s", why)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%w\nlook closer with: kubectl --kubeconfig %s -n %s describe pods", err, c.Kubeconfig, c.Demo.Namespace)
		}
		c.say("%s answers", url)
	}
	return nil
}

// pods says which of the demo's pods are not ready, and why; nothing if all are.
func (c *cluster) pods(ctx context.Context) string {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase             string
				Conditions        []condition
				ContainerStatuses []struct {
					State struct{ Waiting *condition }
				}
			}
		}
	}
	if err := c.api.get(ctx, "/api/v1/namespaces/"+c.Demo.Namespace+"/pods", &list); err != nil {
		return err.Error()
	}
	var not []string
	for _, pod := range list.Items {
		if slices.ContainsFunc(pod.Status.Conditions, func(c condition) bool { return c.Type == "Ready" && c.Status == "True" }) {
			continue
		}
		why := pod.Status.Phase
		for _, s := range pod.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil {
				why = strings.TrimSpace(w.Reason + " " + w.Message)
			}
		}
		for _, cond := range pod.Status.Conditions {
			if cond.Type == "PodScheduled" && cond.Status == "False" {
				why = cond.Message
			}
		}
		not = append(not, pod.Metadata.Name+" is "+why)
	}
	if len(list.Items) == 0 {
		return "it has no pods yet"
	}
	return strings.Join(not, ", ")
}
