// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// setTimerSlack sets by how much the timers of a process may be late. It is an
// attribute of each thread, and a new thread has that of the thread that made it: when
// there is none that was not seen before, all have it, and all that come will.
//
// Not done before the process is executed, which all threads would inherit: a start
// waits for many short timers, one after the other.
func setTimerSlack(pid int, slack time.Duration) error {
	value := []byte(strconv.FormatInt(slack.Nanoseconds(), 10))
	seen := map[string]bool{}
	for {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("set timer slack: %w", err)
		}
		before := len(seen)
		for _, t := range threads {
			if seen[t.Name()] {
				continue
			}
			seen[t.Name()] = true
			// There is none in the folder of the task.
			err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", value, 0)
			switch {
			case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH): // it has ended
			case errors.Is(err, os.ErrPermission):
				return fmt.Errorf("set timer slack: %w (it needs CAP_SYS_NICE)", err)
			case err != nil:
				return fmt.Errorf("set timer slack: %w", err)
			}
		}
		if len(seen) == before {
			return nil
		}
	}
}
