// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Every thread of a child that is ready has it, and what is not to have it has not.
func TestTimerSlack(t *testing.T) {
	n := newNode(t)
	var log recorder
	s := n.run(log.logger(), nil, spec{Name: "a", Slack: 7 * time.Millisecond}, spec{Name: "b"})
	a, b := s.await("a", isReady).PID, s.await("b", isReady).PID
	if strings.Contains(log.String(), "CAP_SYS_NICE") {
		for thread, slack := range slacks(t, a) {
			if slack == "7000000" {
				t.Errorf("thread %s has it, and the log says that it could not be set:\n%s", thread, log.String())
			}
		}
		return
	}
	for thread, slack := range slacks(t, a) {
		if slack != "7000000" {
			t.Errorf("thread %s of a: %s ns", thread, slack)
		}
	}
	for thread, slack := range slacks(t, b) {
		if slack == "7000000" {
			t.Errorf("thread %s of b: %s ns", thread, slack)
		}
	}
}

// slacks are those of a process's threads, in nanoseconds.
func slacks(t *testing.T, pid int) map[string]string {
	t.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v %v", pid, threads, err)
	}
	all := map[string]string{}
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all[thread.Name()] = strings.TrimSpace(string(text))
	}
	return all
}
