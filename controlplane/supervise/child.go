// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Child is a process to keep running.
type Child struct {
	// Name is what status, log and record call it: lower case letters, digits, dashes. Required.
	Name string
	// Path of the executable, absolute. Required.
	Path string
	// Args follow the name of the program.
	Args []string
	// Env is all that the child gets, but what systemd meant for the supervisor. Nil: Environment(os.Environ()).
	Env []string
	// Dir is the folder to start in. Empty: the root folder.
	Dir string
	// LogFile is appended to, and rotated by size. Required.
	LogFile string

	// After names children that must have been ready once before this one is
	// started, and that are stopped after it.
	After []string
	// Ready is called again and again until it returns nil. Nil: ready when started.
	Ready func(context.Context) error
	// ReadyTimeout is how long a start may take before it is given up and tried again. Zero: 2 minutes.
	ReadyTimeout time.Duration

	// StopSignal asks the child to end. Zero: SIGTERM.
	StopSignal syscall.Signal
	// StopGrace is how long it may take before it is killed. Zero: 10 seconds.
	StopGrace time.Duration
	// Keep leaves the child running when the supervisor ends: StopAll ends it.
	Keep bool

	// OOMScoreAdj is its oom_score_adj(5). Nil: the supervisor's.
	OOMScoreAdj *int
	// OpenFiles is its limit of open files, soft and hard. Zero: the supervisor's.
	OpenFiles uint64
	// TimerSlack is by how much timers may be late when the child is ready and has
	// nothing to do, so that the kernel wakes it up once for several of them. What the
	// child starts inherits it: it is not for one that starts containers. Zero: as it is.
	TimerSlack time.Duration
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// complete checks a child and fills what it leaves open.
func (c *Child) complete() error {
	switch {
	case !validName.MatchString(c.Name):
		return fmt.Errorf("child %q: the name must be of lower case letters, digits and dashes", c.Name)
	case !filepath.IsAbs(c.Path):
		return fmt.Errorf("child %s: path %q is not absolute", c.Name, c.Path)
	case !filepath.IsAbs(c.LogFile):
		return fmt.Errorf("child %s: log file %q is not absolute", c.Name, c.LogFile)
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = Environment(c.Env)
	c.Dir = cmp.Or(c.Dir, "/")
	c.ReadyTimeout = cmp.Or(c.ReadyTimeout, 2*time.Minute)
	c.StopSignal = cmp.Or(c.StopSignal, unix.SIGTERM)
	c.StopGrace = cmp.Or(c.StopGrace, 10*time.Second)
	return nil
}

// command identifies what is executed, and how: a running process with another
// one is replaced. How it is awaited and stopped makes no difference to it.
func (c *Child) command() string {
	env := slices.Clone(c.Env)
	slices.Sort(env) // Go programs that pass a map along shuffle it
	text, err := json.Marshal([]any{c.Path, c.Args, env, c.Dir, c.LogFile, c.OOMScoreAdj, c.OpenFiles})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// executable identifies the file at path: an upgrade, by whatever way it came,
// changes it.
func executable(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("find executable: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d:%d:%d", st.Dev, st.Ino, st.Size, info.ModTime().UnixNano()), nil
}

// complete checks all children together and returns a copy.
func complete(children []Child) ([]Child, error) {
	children = slices.Clone(children)
	known := make(map[string]*Child)
	for i := range children {
		c := &children[i]
		if err := c.complete(); err != nil {
			return nil, err
		}
		if known[c.Name] != nil {
			return nil, fmt.Errorf("child %s is there twice", c.Name)
		}
		known[c.Name] = c
	}
	for _, c := range children {
		for _, name := range c.After {
			if known[name] == nil {
				return nil, fmt.Errorf("child %s: after %q, which is not there", c.Name, name)
			}
		}
		if awaits(known, c.After, c.Name, map[string]bool{}) {
			return nil, fmt.Errorf("child %s waits for itself", c.Name)
		}
	}
	return children, nil
}

// awaits says whether one of the children is started after the named one.
func awaits(known map[string]*Child, children []string, name string, seen map[string]bool) bool {
	return slices.ContainsFunc(children, func(c string) bool {
		if c == name {
			return true
		}
		if seen[c] || known[c] == nil {
			return false
		}
		seen[c] = true
		return awaits(known, known[c].After, name, seen)
	})
}
