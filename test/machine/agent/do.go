// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

// do does what a request asks for.
func do(ctx context.Context, req *wire.Request) *wire.Answer {
	answer := &wire.Answer{}
	var err error
	switch {
	case req.Run != nil:
		err = runCommand(ctx, req.Run, answer)
	case req.Read != "":
		answer.Data, err = readFile(req.Read)
	case req.Write != nil:
		err = writeFile(req.Write)
	case req.Clock != nil:
		err = setClock(*req.Clock)
	default:
		err = errors.New("nothing is asked for (was the agent built from another version?)")
	}
	if err != nil {
		answer.Error = err.Error()
		errors.As(err, &answer.Errno)
	}
	return answer
}

// environment is what a command starts with, as root's shell would have it.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "LANG=C.UTF-8",
}

// runCommand fills in how the command ended. The error is for a command that
// could not be run.
func runCommand(ctx context.Context, c *wire.Command, answer *wire.Answer) error {
	if len(c.Args) == 0 {
		return errors.New("run command: none given")
	}
	stdout, stderr := &limited{}, &limited{}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir = slices.Concat(environment, c.Env), c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), stdout, stderr
	// A group of its own: what a shell started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// What a command leaves in the background may keep its output open.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	answer.Stdout, answer.Stderr = stdout.buf.Bytes(), stderr.buf.Bytes()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		answer.Code = exit.ExitCode()
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			answer.Code = 128 + int(status.Signal())
		}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return fmt.Errorf("run %s: %w", c.Args[0], err)
	}
	if stdout.cut || stderr.cut {
		return fmt.Errorf("run %s: printed more than %d MiB (let it write to a file)", c.Args[0], wire.MaxOutput>>20)
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct {
	buf bytes.Buffer
	cut bool
}

func (l *limited) Write(b []byte) (int, error) {
	keep := min(len(b), wire.MaxOutput-l.buf.Len())
	l.cut = l.cut || keep < len(b)
	l.buf.Write(b[:keep])
	return len(b), nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > wire.MaxOutput {
		return nil, fmt.Errorf("read %s: larger than %d MiB", path, wire.MaxOutput>>20)
	}
	return os.ReadFile(path)
}

// writeFile replaces a file in one step: a power cut leaves the old or the new.
func writeFile(f *wire.File) error {
	tmp := f.Path + ".waggle-new"
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, f.Mode.Perm())
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	_, err = file.Write(f.Data)
	// Chmod, since the umask and an older file had a say in the mode.
	if err := errors.Join(err, file.Chmod(f.Mode.Perm()), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, f.Path)
}

// setClock sets the system's clock, and the one that keeps time over a reboot.
func setClock(to time.Time) error {
	ts := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	rtc, err := os.Open("/dev/rtc0")
	if err != nil {
		return fmt.Errorf("open hardware clock: %w", err)
	}
	defer rtc.Close()
	utc := to.UTC()
	err = unix.IoctlSetRTCTime(int(rtc.Fd()), &unix.RTCTime{
		Sec: int32(utc.Second()), Min: int32(utc.Minute()), Hour: int32(utc.Hour()),
		Mday: int32(utc.Day()), Mon: int32(utc.Month()) - 1, Year: int32(utc.Year()) - 1900,
	})
	if err != nil {
		return fmt.Errorf("set hardware clock: %w", err)
	}
	return nil
}
