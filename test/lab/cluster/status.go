// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/test/lab"
)

// The processes of a server, as its status names them.
const (
	containerd   = "containerd"
	controlPlane = "control-plane"
)

// status is what `waggle-kube status --json` prints.
type status struct {
	supervise.Status
	Components map[string][]health.Component `json:"components"`
}

// maxRestarts is how often a process may end while it is waited for before it counts as
// broken: some wait for others by trying again.
const maxRestarts = 3

func (c *cluster) status(ctx context.Context) (*status, error) {
	cmd := c.node.KubeCommand(ctx, "status", "--json")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var s status
	// It fails, too, while not all are ready: what it prints counts.
	if bad := json.Unmarshal(out, &s); bad != nil {
		return nil, fmt.Errorf("ask waggle-kube for its status: %w: %s", errors.Join(err, bad), strings.TrimSpace(errs.String()))
	}
	return &s, nil
}

// awaitProcess waits until a process of the server is ready; all of them, if no name is
// given.
func (c *cluster) awaitProcess(ctx context.Context, name string) error {
	supervisor, err := c.node.Process(lab.KubeProcess)
	if err != nil {
		return err
	}
	log := supervisor.LogPath // of what is waited for
	failures := map[string]*failure{}
	err = c.await(ctx, cmp.Or(name, "all processes"), c.Timeout, func(ctx context.Context) error {
		if !supervisor.Running() {
			log = supervisor.LogPath
			return errors.New("waggle-kube has ended")
		}
		s, err := c.status(ctx)
		if err != nil {
			return pendingf("waggle-kube does not answer yet")
		}
		for _, child := range s.Children {
			if name != "" && child.Name != name || child.State == supervise.Ready {
				continue
			}
			log = c.outside(child.LogFile)
			if failures[child.Name] == nil {
				failures[child.Name] = &failure{restarts: child.Restarts}
			}
			return failures[child.Name].judge(child, s.explain(child))
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w\nthe end of its log, %s:\n%s", err, log, lastLines(log, 12))
	}
	return err
}

// failure is what is known of a process that ends again and again.
type failure struct {
	restarts int    // before it was waited for
	why      string // the most telling answer so far
}

// judge is pending until a process has ended too often.
func (f *failure) judge(child supervise.ChildStatus, why string) error {
	if strings.Contains(why, " is "+string(health.Failed)) || f.why == "" && child.State == supervise.Backoff {
		f.why = why
	}
	if times := child.Restarts - f.restarts; times >= maxRestarts {
		return fmt.Errorf("start %s: it has ended %d times: %s", child.Name, times, cmp.Or(f.why, why))
	}
	return pending{why}
}

// explain says what keeps a process from being ready: of its components, the first that
// failed, or else the first that is not ready.
func (s *status) explain(child supervise.ChildStatus) string {
	name := child.Name + " is " + string(child.State)
	var first string
	for _, part := range s.Components[child.Name] {
		if part.State == health.Ready || part.State == health.Stopped {
			continue
		}
		text := strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", part.Name, part.State, part.Message), ": ")
		if part.State == health.Failed {
			return name + ": " + text
		}
		first = cmp.Or(first, text)
	}
	problem, _, _ := strings.Cut(cmp.Or(child.LastError, child.LastExit), "\n")
	return strings.TrimSuffix(name+": "+cmp.Or(first, problem), ": ")
}

// outside is where the machine sees a file of the node's data folder.
func (c *cluster) outside(path string) string {
	return filepath.Join(c.node.Dir(), "private", path)
}

// maxLine is where long lines of logs are cut.
const maxLine = 300

// lastLines is the end of a log.
func lastLines(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		if len(line) > maxLine {
			lines[i] = line[:maxLine] + " ..."
		}
	}
	return strings.Join(lines, "\n")
}

func (c *cluster) awaitContainerd(ctx context.Context) error {
	if err := c.awaitProcess(ctx, containerd); err != nil {
		return err
	}
	c.say("containerd is ready")
	return nil
}

func (c *cluster) awaitControlPlane(ctx context.Context) error {
	if err := c.awaitProcess(ctx, controlPlane); err != nil {
		return err
	}
	c.say("the control plane is ready")
	return nil
}
