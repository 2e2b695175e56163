// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launch turns the process into a child, where that is what it was started for: it
// must be the first call of main. It returns where it was not, or failed to, and
// then says with which code to exit.
//
// A supervisor starts this program, not the child's: the new process first writes
// the record of itself, and then executes the child's program under its own number.
// Until then it holds the supervisor's lock. So if the supervisor dies at whatever
// instant, the next one, who needs the lock, either finds the record or there is no
// process. What is inherited beyond standard output and error is closed by that
// execution, so that nothing the child starts holds anything.
func Launch() (code int, launched bool) {
	if len(os.Args) == 0 || os.Args[0] != launcher {
		return 0, false
	}
	in, out := os.NewFile(orderFD, "order"), os.NewFile(reportFD, "report")
	answer := json.NewEncoder(out)
	var o order
	err := json.NewDecoder(in).Decode(&o)
	if err != nil {
		err = fmt.Errorf("read order: %w", err) // the supervisor is gone
	} else {
		err = o.execute(func(warning error) { _ = answer.Encode(report{Warning: warning.Error()}) })
	}
	_ = answer.Encode(report{Error: err.Error()})
	return 1, true
}

// execute returns only with an error.
func (o *order) execute(warn func(error)) error {
	unix.Umask(0o022) // the supervisor's may be anything
	if o.OpenFiles != 0 {
		if err := setOpenFiles(o.OpenFiles); err != nil {
			warn(err)
		}
	}
	if o.OOMScoreAdj != nil {
		if err := setOOMScoreAdj(*o.OOMScoreAdj); err != nil {
			warn(err)
		}
	}
	var err error
	if o.Record.Executable, err = executable(o.Path); err != nil {
		return err
	}
	if o.Record.identity, err = identify(os.Getpid()); err != nil {
		return err
	}
	if err := o.Record.write(o.RecordFile); err != nil {
		return err
	}
	if err := unix.CloseRange(lockFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	err = syscall.Exec(o.Path, o.Args, os.Environ())
	return errors.Join(fmt.Errorf("execute %s: %w", o.Path, err), os.Remove(o.RecordFile))
}

// setOpenFiles sets both limits, or without CAP_SYS_RESOURCE as much as is allowed.
func setOpenFiles(n uint64) error {
	err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	var now syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return err
	}
	now.Cur = now.Max
	return errors.Join(
		fmt.Errorf("limit of open files is %d instead of %d: that needs CAP_SYS_RESOURCE, or a higher limit to start with", now.Max, n),
		syscall.Setrlimit(unix.RLIMIT_NOFILE, &now))
}

func setOOMScoreAdj(n int) error {
	err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(n)), 0)
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("oom_score_adj stays as it is, %d needs CAP_SYS_RESOURCE: with little memory left the kernel may kill this process first", n)
	}
	return err
}
