// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a background program of a host or a pod. It outlives the program
// that started it, and ends by itself, by Kill or Stop, or with the lab.
type Process struct {
	Name      string `json:"name"`
	Pid       int    `json:"pid"`
	StartTime string `json:"startTime"` // field 22 of /proc/<pid>/stat: tells a reused pid apart
	LogPath   string `json:"logPath"`

	fd   int // pidfd, closed after the process has ended
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// Start starts a program in the background, inside the host and its cgroup and in
// a session of its own. Its output is appended to Dir()/log/<name>.log. ctx bounds
// the start, not the life. A name can run once at a time on a host.
func (h *Host) Start(ctx context.Context, name string, argv ...string) (*Process, error) {
	if len(argv) == 0 {
		return nil, h.wrap("start "+name, errors.New("no program given"))
	}
	return h.start(ctx, name, h.processCgroup(), h.nsenter(h.NetNSPath(), argv[0], argv[1:]))
}

func (h *Host) start(ctx context.Context, name, cgroup string, argv []string) (*Process, error) {
	fail := func(err error) (*Process, error) { return nil, h.wrap("start "+name, err) }
	if name == "" || strings.ContainsAny(name, "/ ") {
		return fail(fmt.Errorf("bad process name %q", name))
	}
	if ctx.Err() != nil {
		return fail(context.Cause(ctx))
	}
	if old, err := h.Process(name); err == nil && old.Running() {
		return fail(fmt.Errorf("already running as process %d", old.Pid))
	}
	p := &Process{Name: name, LogPath: h.LogPath(name), done: make(chan struct{})}
	log, err := os.OpenFile(p.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	// Born in its cgroup: there is no moment in which Down would not find it.
	group, err := os.Open(cgroup)
	if err != nil {
		return fail(err)
	}
	defer group.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	p.Pid, p.fd = cmd.Process.Pid, pidfd
	p.StartTime, err = startTime(p.Pid)
	go func() {
		p.err = cmd.Wait()
		p.finish()
	}()
	if err == nil {
		err = h.recordProcess(p)
	}
	if err != nil {
		_ = p.Kill() // the first error is the one that helps
		<-p.done
		return fail(err)
	}
	return p, nil
}

// LogPath is where the output of the process of that name goes.
func (h *Host) LogPath(name string) string { return filepath.Join(h.Dir(), "log", name+".log") }

func (h *Host) processPath(name string) string {
	return filepath.Join(h.Dir(), "processes", name+".json")
}

func (h *Host) recordProcess(p *Process) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFileAtomic(h.processPath(p.Name), data, 0o644)
}

// Process returns the process of that name, whoever started it. One that has
// ended is returned too: its Done channel is closed.
func (h *Host) Process(name string) (*Process, error) {
	data, err := os.ReadFile(h.processPath(name))
	if err != nil {
		return nil, h.wrap("find process "+name, err)
	}
	p := &Process{done: make(chan struct{})}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, h.wrap("decode process "+name, err)
	}
	p.fd, err = unix.PidfdOpen(p.Pid, 0)
	now, errTime := startTime(p.Pid)
	if err != nil || errTime != nil || now != p.StartTime {
		p.finish()
		return p, nil
	}
	go func() {
		_ = waitPidfd(context.Background(), p.fd) // ended, or cannot be watched
		p.finish()
	}()
	return p, nil
}

// Processes returns the processes that were started on the host and its pods.
func (h *Host) Processes() ([]*Process, error) {
	entries, err := os.ReadDir(filepath.Join(h.Dir(), "processes"))
	if err != nil {
		return nil, h.wrap("list processes", err)
	}
	var ps []*Process
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		p, err := h.Process(name)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (p *Process) finish() {
	close(p.done)
	if p.fd > 0 {
		unix.Close(p.fd)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end. It returns how the process ended, as exec.Cmd.Wait
// does; nil, if it was started by somebody else.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.Name, context.Cause(ctx))
	}
}

// Signal sends a signal. To a process that has ended, it does nothing.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	// The start time, and not the pidfd: that may be closed this very moment.
	if now, err := startTime(p.Pid); err != nil || now != p.StartTime {
		return nil
	}
	if err := unix.Kill(p.Pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop ends the process with SIGTERM, and with SIGKILL if it is still there after
// grace. It says so, because a daemon that cannot stop has a bug.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("stop %s: still running %v after SIGTERM, killed", p.Name, grace), p.Kill())
	}
}

// Log returns what the process has printed, and what its predecessors of the same
// name had.
func (p *Process) Log() string {
	data, _ := os.ReadFile(p.LogPath) // no log: nothing printed
	return string(data)
}

// startTime reads the start of a process that runs, in clock ticks since boot. The command
// name in the line may hold anything, also parentheses: fields count from the last.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(data), ") ")
	for ok && strings.Contains(rest, ") ") {
		_, rest, _ = strings.Cut(rest, ") ")
	}
	fields := strings.Fields(rest)
	const startField = 22 - 3 // rest begins with field 3
	if !ok || len(fields) <= startField {
		return "", fmt.Errorf("read /proc/%d/stat: unknown format", pid)
	}
	// One that nobody has reaped yet has ended all the same.
	if state := fields[0]; state == "Z" || state == "X" {
		return "", fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	return fields[startField], nil
}
