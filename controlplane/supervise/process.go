// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

// process is a running process, our own child or one of a former supervisor. It
// is held by a pidfd: a signal can only reach the process that was opened.
type process struct {
	pid   int
	pidfd *os.File
	own   *os.Process // nil if it is another's child, or was
	since time.Time

	done chan struct{} // closed when it has ended
	exit string        // how it ended; valid once done is closed
}

// openProcess does not say whether the process is the one that was meant. Watch it.
func openProcess(pid int, own *os.Process) (*process, error) {
	// Non-blocking, for the Go runtime to wait with all others in one epoll.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), own: own, done: make(chan struct{})}, nil
}

// watch announces the end of the process.
func (p *process) watch() {
	go func() {
		defer close(p.done)
		defer p.pidfd.Close()
		if err := p.await(); err != nil {
			p.exit = err.Error()
			return
		}
		p.exit = "unknown: it was started by a former supervisor"
		if p.own != nil {
			if state, err := p.own.Wait(); err != nil {
				p.exit = err.Error()
			} else {
				p.exit = state.String()
			}
		}
	}()
}

// await waits for the pidfd to become readable: that is when the process has ended.
func (p *process) await() error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(poll, 0)
		}
		failed = err
		return err != nil || n > 0
	})
	if err := cmp.Or(failed, err); err != nil {
		return fmt.Errorf("wait for process %d: %w", p.pid, err)
	}
	return nil
}

// signal does nothing to a process that has ended.
func (p *process) signal(s syscall.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return nil // closed: it has ended
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return nil
	}
	if failed != nil && !errors.Is(failed, unix.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(s), p.pid, failed)
	}
	return nil
}

// unkillable is how long a killed process may take to end before it is left
// alone: it hangs in the kernel, on a file server that is gone for instance.
const unkillable = 10 * time.Second

// stop asks the process to end, and kills it where it takes longer than the grace.
// The error says that it runs on.
func (p *process) stop(s syscall.Signal, grace time.Duration, clk clock.Clock, log *slog.Logger) error {
	if err := p.signal(s); err != nil {
		return err
	}
	if p.endsWithin(grace, clk) {
		return nil
	}
	log.Warn("killing, since it does not end", "pid", p.pid, "signal", unix.SignalName(s), "waited", grace)
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	if p.endsWithin(unkillable, clk) {
		return nil
	}
	return fmt.Errorf("process %d does not end, though killed: see /proc/%d/stack for what it waits for", p.pid, p.pid)
}

func (p *process) endsWithin(d time.Duration, clk clock.Clock) bool {
	timer := clk.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C():
		return false
	}
}
