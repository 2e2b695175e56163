// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// How long each step of stopping all pods may take. A step that takes longer is left
// to what follows it, and in the end reported.
const (
	listTime = 10 * time.Second
	killTime = 30 * time.Second // after the grace: containers are killed and gone
	stopTime = time.Minute      // sandboxes' networks are taken down
)

// StopPods stops all containers at the same time, which have the grace to end by
// themselves, then all pods, which takes their networks down (CNI DEL). It returns how
// many have stopped, and an error that names those that have not, and why. Nobody must
// start pods meanwhile. It may be repeated: where no pod runs it does nothing.
//
// Their records stay, as they do when a machine loses its power: by them the kubelet
// knows, when it is back, that a pod has run that is to run only once.
//
// It ends within the grace and three minutes, whatever containerd does.
func StopPods(ctx context.Context, l layout.Layout, grace time.Duration) (int, error) {
	if grace < 0 {
		return 0, fmt.Errorf("stop pods: grace %s: want none or more", grace)
	}
	ctx = quiet(ctx)
	c, err := connect(ctx, l)
	if err != nil {
		return 0, fmt.Errorf("stop pods: %w", err)
	}
	defer c.close(ctx)
	s := stopping{client: c, ran: map[string]bool{}, failed: map[string][]error{}}
	return s.run(ctx, grace)
}

// stopping is one attempt.
type stopping struct {
	*client
	ran    map[string]bool    // by the pod's id: something of it ran
	failed map[string][]error // likewise: what went wrong with it
}

func (s *stopping) run(ctx context.Context, grace time.Duration) (int, error) {
	list, err := s.pods(ctx)
	if err != nil {
		return 0, fmt.Errorf("stop pods: %w", err)
	}
	for _, p := range list {
		s.ran[p.Id] = p.State == runtimeapi.PodSandboxState_SANDBOX_READY
	}
	if err := s.stopContainers(ctx, grace); err != nil {
		return 0, fmt.Errorf("stop pods: %w", err)
	}
	// Those that have stopped, too: their network may not have been taken down.
	done := s.step(ctx, "stop", podIDs(list), stopTime, s.runtime.StopPodSandbox)

	now, err := s.pods(ctx)
	if err != nil {
		return 0, fmt.Errorf("see which pods are left: %w", err)
	}
	left := slices.DeleteFunc(now, func(p *runtimeapi.PodSandbox) bool { return slices.Contains(done, p.Id) })
	ran := slices.DeleteFunc(list, func(p *runtimeapi.PodSandbox) bool { return !s.ran[p.Id] })
	return len(ran) - common(ran, left), s.report(left)
}

func (s *stopping) pods(ctx context.Context) ([]*runtimeapi.PodSandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	return s.listPods(ctx, nil)
}

func (s *stopping) running(ctx context.Context) ([]*runtimeapi.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	list, err := s.listContainers(ctx, nil)
	return slices.DeleteFunc(list, func(c *runtimeapi.Container) bool {
		return c.State != runtimeapi.ContainerState_CONTAINER_RUNNING && c.State != runtimeapi.ContainerState_CONTAINER_UNKNOWN
	}), err
}

// stopContainers stops those that run. What goes wrong with one of them may be cured
// by stopping its pod, which kills it.
func (s *stopping) stopContainers(ctx context.Context, grace time.Duration) error {
	list, err := s.running(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		s.ran[c.PodSandboxId] = true
	}
	ids := containerIDs(list)
	ctx, cancel := context.WithTimeout(ctx, grace+killTime)
	defer cancel()
	seconds := int64((grace + time.Second - 1) / time.Second)
	for i, err := range each(ids, len(ids), func(id string) error { return s.runtime.StopContainer(ctx, id, seconds) }) {
		if err != nil {
			pod := list[i].PodSandboxId
			s.failed[pod] = append(s.failed[pod], fmt.Errorf("stop container %s: %w", truncate(ids[i]), tooLong(err, grace+killTime)))
		}
	}
	return nil
}

// step does one thing to pods, and returns those with which it went well.
func (s *stopping) step(ctx context.Context, verb string, ids []string, limit time.Duration, f func(context.Context, string) error) []string {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var done []string
	for i, err := range each(ids, atOnce, func(id string) error { return f(ctx, id) }) {
		if err != nil {
			s.failed[ids[i]] = append(s.failed[ids[i]], fmt.Errorf("%s: %w", verb, tooLong(err, limit)))
			continue
		}
		done = append(done, ids[i])
	}
	return done
}

func tooLong(err error, limit time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it took more than %s", limit)
	}
	return err
}

// common counts the pods that are in both lists.
func common(list, left []*runtimeapi.PodSandbox) int {
	ids, n := podIDs(left), 0
	for _, p := range list {
		if slices.Contains(ids, p.Id) {
			n++
		}
	}
	return n
}

// report names the pods that are left. What went wrong with those that have stopped
// does not matter any more.
func (s *stopping) report(left []*runtimeapi.PodSandbox) error {
	var errs []error
	for _, p := range left {
		err := errors.Join(s.failed[p.Id]...)
		if err == nil {
			err = errors.New("it was started meanwhile: stop the server first")
		}
		errs = append(errs, fmt.Errorf("pod %s/%s (%s) is left: %w",
			p.GetMetadata().GetNamespace(), p.GetMetadata().GetName(), truncate(p.Id), err))
	}
	return errors.Join(errs...)
}
