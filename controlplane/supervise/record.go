// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// identity names one process for ever: a number is used again, but not with the
// same start time in the same boot.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
	Boot  string `json:"boot"`
}

// record is what a supervisor needs to know of a process that another one started.
// The process itself writes it, before it becomes what it is to be (see Launch).
type record struct {
	identity
	Name       string    `json:"name"`
	Command    string    `json:"command"`
	Executable string    `json:"executable"`
	Started    time.Time `json:"started"`

	// How to stop it, by whoever has no Child for it.
	After      []string       `json:"after,omitempty"`
	StopSignal syscall.Signal `json:"stopSignal"`
	StopGrace  time.Duration  `json:"stopGrace"` // nanoseconds
	Keep       bool           `json:"keep,omitempty"`
}

// write replaces the record's file as a whole.
func (r *record) write(path string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("record process: %w", err)
	}
	temporary := path + ".new"
	// Not synced: it need not survive the machine, whose next boot has another id.
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("record process: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("record process: %w", err)
	}
	return nil
}

// readRecord returns nil where there is no record.
func readRecord(path string) (*record, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record of process: %w", err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read record of process %s: %w", path, err)
	}
	return &r, nil
}

// readRecords reads all records; one that is unreadable names no process.
func readRecords(l layout.Layout) (records []*record, err error) {
	paths, err := filepath.Glob(l.ProcessFile("*"))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		r, err := readRecord(path)
		switch {
		case err != nil:
			errs = append(errs, err)
		case r != nil && l.ProcessFile(r.Name) == path:
			records = append(records, r)
		}
	}
	return records, errors.Join(errs...)
}

// identify says who a process is.
func identify(pid int) (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	stat, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{PID: pid, Start: stat.start, Boot: boot}, nil
}

// runs says whether the process runs. A zombie does not.
func (id identity) runs() (bool, error) {
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	if id.Boot != boot || id.PID <= 0 {
		return false, nil
	}
	stat, err := readStat(id.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	return err == nil && stat.alive && stat.start == id.Start, err
}

// open returns the process if it runs, and nil if it does not.
func (id identity) open() (*process, error) {
	if runs, err := id.runs(); err != nil || !runs {
		return nil, err
	}
	p, err := openProcess(id.PID, nil)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Asked again: if it is so after the process was opened, it is this process
	// that was opened.
	if runs, err := id.runs(); err != nil || !runs {
		p.pidfd.Close()
		return nil, err
	}
	p.watch()
	return p, nil
}

var bootID = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
})

type procStat struct {
	start uint64 // clock ticks since boot
	alive bool   // not a zombie, whose parent has not asked for its end
}

func readStat(pid int) (procStat, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return procStat{}, err
	}
	stat, err := parseStat(text)
	if err != nil {
		return procStat{}, fmt.Errorf("read %s: %w", path, err)
	}
	return stat, nil
}

// parseStat reads proc_pid_stat(5). The second field is the program's name in
// parentheses, and may itself contain anything.
func parseStat(text []byte) (procStat, error) {
	after := text[bytes.LastIndexByte(text, ')')+1:]
	fields := strings.Fields(string(after))
	const state, start = 3, 22 // as the manual counts
	if len(fields) <= start-state {
		return procStat{}, errors.New("not in the form of proc_pid_stat(5)")
	}
	ticks, err := strconv.ParseUint(fields[start-state], 10, 64)
	if err != nil {
		return procStat{}, err
	}
	s := fields[0]
	return procStat{start: ticks, alive: s != "Z" && s != "X" && s != "x"}, nil
}
