// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// launcher is argument 0 of this program when it is to become a child.
const launcher = "waggle-kube-launch"

// The file descriptors that a launcher gets. The lock is held through its own.
const (
	lockFD = iota + 3
	orderFD
	reportFD
)

// order is what a launcher is told.
type order struct {
	Path        string   `json:"path"`
	Args        []string `json:"args"` // with argument 0
	RecordFile  string   `json:"recordFile"`
	Record      record   `json:"record"` // without identity and executable
	OOMScoreAdj *int     `json:"oomScoreAdj,omitempty"`
	OpenFiles   uint64   `json:"openFiles,omitempty"`
}

// report is a line of what a launcher answers. Its end without an error means that
// the child runs.
type report struct {
	Warning string `json:"warning,omitempty"`
	Error   string `json:"error,omitempty"`
}

// launch starts a child. The process that it returns has recorded itself and been
// executed, unless ctx ended meanwhile. The warnings are about what could not be set.
func (k *Lock) launch(ctx context.Context, c *Child, now time.Time) (p *process, warnings []string, err error) {
	log, err := openLog(c.LogFile)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	orderReader, orderWriter, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer orderReader.Close()
	defer orderWriter.Close()
	reportReader, reportWriter, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer reportReader.Close()
	defer reportWriter.Close()

	p, err = k.fork(c, log, orderReader, reportWriter)
	if err != nil {
		return nil, nil, err
	}
	p.since = now
	reportWriter.Close()
	orderReader.Close()
	// A launcher that died does not read: its report ends, and says so.
	stop := context.AfterFunc(ctx, func() {
		_ = orderWriter.SetDeadline(time.Unix(1, 0))
		_ = reportReader.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	if err := json.NewEncoder(orderWriter).Encode(k.order(c, p)); err != nil && ctx.Err() == nil && !errors.Is(err, syscall.EPIPE) {
		err = errors.Join(fmt.Errorf("tell launcher: %w", err), p.signal(syscall.SIGKILL))
		<-p.done
		return nil, nil, err
	}
	orderWriter.Close()
	warnings, err = readReport(reportReader)
	if err != nil {
		<-p.done // the launcher ends by itself after an error
		return nil, warnings, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return p, warnings, nil
}

// fork starts this program as a launcher.
func (k *Lock) fork(c *Child, log, order, report *os.File) (*process, error) {
	cmd := exec.Cmd{
		Path:       "/proc/self/exe", // also where the file has been replaced
		Args:       []string{launcher, c.Name},
		Env:        c.Env,
		Dir:        c.Dir,
		Stdout:     log,
		Stderr:     log,
		ExtraFiles: []*os.File{k.file, order, report},
		// Signals of the terminal are for the supervisor, who stops the child.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p, err := openProcess(cmd.Process.Pid, cmd.Process)
	if err != nil {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		return nil, err
	}
	p.watch()
	return p, nil
}

func (k *Lock) order(c *Child, p *process) order {
	return order{
		Path:        c.Path,
		Args:        append([]string{filepath.Base(c.Path)}, c.Args...),
		RecordFile:  k.layout.ProcessFile(c.Name),
		OOMScoreAdj: c.OOMScoreAdj,
		OpenFiles:   c.OpenFiles,
		Record: record{
			Name: c.Name, Command: c.command(), Started: p.since,
			After: c.After, StopSignal: c.StopSignal, StopGrace: c.StopGrace, Keep: c.Keep,
		},
	}
}

func readReport(r io.Reader) (warnings []string, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var line report
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			// The traceback of a launcher is in the child's log.
			return warnings, fmt.Errorf("the launcher answers %q", lines.Text())
		}
		if line.Error != "" {
			return warnings, errors.New(strings.TrimSpace(line.Error))
		}
		warnings = append(warnings, line.Warning)
	}
	return warnings, nil // cut short where the supervisor is told to stop
}
