// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/waggle-net/waggle/test/await"
)

// recorder keeps what was logged.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *recorder) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func TestOrder(t *testing.T) {
	n := newNode(t)
	// What is ready says so in the journal.
	ready := func(name string) func(context.Context) error {
		return func(context.Context) error {
			if err := n.isRunning(name); err != nil {
				return err
			}
			n.journal("ready", name)
			return nil
		}
	}
	s := n.run(quiet, nil,
		spec{Name: "last", After: []string{"left", "right"}, Ready: ready("last")},
		spec{Name: "left", After: []string{"first"}, Ready: ready("left")},
		spec{Name: "right", After: []string{"first"}, Ready: ready("right")},
		spec{Name: "first", Ready: ready("first")},
	)
	s.await("last", isReady)
	s.stop()
	n.inOrder("start first", "ready first", "start left", "ready left", "start last", "stop last", "stop left", "stop first")
	n.inOrder("ready first", "start right", "ready right", "start last", "stop last", "stop right", "stop first")
	for _, c := range s.Status().Children {
		if c.State != Stopped || c.PID != 0 || c.LastExit != "exit status 0" || c.Restarts != 0 {
			t.Errorf("%+v", c)
		}
	}
	if records, err := readRecords(n.layout()); err != nil || len(records) > 0 {
		t.Errorf("records are left: %v, %v", records, err)
	}
}

// Those that do not depend on each other are started together: each of the two is
// ready when the other runs.
func TestParallel(t *testing.T) {
	n := newNode(t)
	s := n.run(quiet, nil,
		spec{Name: "a", Ready: func(context.Context) error { return n.isRunning("b") }},
		spec{Name: "b", Ready: func(context.Context) error { return n.isRunning("a") }},
	)
	s.await("a", isReady)
	s.await("b", isReady)
}

// A child waits for as long as it takes: while the first is not ready nothing
// else is started, and stopping does not wait for it.
func TestStopWhileStarting(t *testing.T) {
	n := newNode(t)
	s := n.run(quiet, nil,
		spec{Name: "first", Ready: func(context.Context) error { return errors.New("the disk is slow") }},
		spec{Name: "second", After: []string{"first"}},
	)
	s.await("first", func(c ChildStatus) bool {
		return c.State == Starting && c.LastError == "the disk is slow" && n.isRunning("first") == nil
	})
	if c := s.child("second"); c.State != Waiting {
		t.Errorf("%+v", c)
	}
	if text, want := s.Status().summary(), "first is starting (the disk is slow), second is waiting"; text != want {
		t.Errorf("summary is %q, want %q", text, want)
	}
	s.stop()
	if n.count("start second") > 0 {
		t.Error("the second was started")
	}
}

func TestReadyTimeout(t *testing.T) {
	n := newNode(t)
	var log recorder
	s := n.run(log.logger(), nil, spec{
		Name: "slow", Words: []string{"say=cannot find the database"}, ReadyTimeout: time.Second,
		Ready: func(context.Context) error {
			if n.count("start slow") < 2 || n.isRunning("slow") != nil {
				return errors.New("connection refused")
			}
			return nil
		},
	})
	c := s.await("slow", isReady)
	if c.Restarts != 1 || c.LastError != "" {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"not ready within 1s: connection refused", "cannot find the database"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log.String())
		}
	}
}

func TestBackoff(t *testing.T) {
	n := newNode(t)
	clk := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	var log recorder
	s := n.runClock(clk, log.logger(),
		spec{Name: "ill", Words: []string{"say=port 2379 is taken", "exit=3"}, Ready: func(context.Context) error { return errors.New("no") }})
	for i, ms := range []int{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		delay := time.Duration(ms) * time.Millisecond
		inBackoff := func(c ChildStatus) bool { return c.State == Backoff && c.Restarts == i }
		c := s.await("ill", inBackoff)
		if got := c.NextStart.Sub(c.Since); got != delay || c.LastExit != "exit status 3" || c.PID != 0 {
			t.Fatalf("wait %d is %s, want %s: %+v", i, got, delay, c)
		}
		clk.Step(delay - 1)
		if !clk.HasWaiters() {
			t.Fatalf("wait %d was over too early", i)
		}
		clk.Step(1)
	}
	if !strings.Contains(log.String(), "port 2379 is taken") {
		t.Errorf("the child's words are not in the log:\n%s", log.String())
	}
}

// runClock is run with a clock of the test's.
func (n *node) runClock(clk *clocktesting.FakeClock, log *slog.Logger, specs ...spec) *running {
	n.t.Helper()
	lock, err := Acquire(n.t.Context(), n.layout())
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := newSupervisor(lock, n.children(specs), clk, log)
	if err != nil {
		n.t.Fatal(err)
	}
	return n.runSupervisor(lock, s)
}

// A good life makes up for the past, and a clean end that nobody asked for is an
// end like any other.
func TestBackoffAfterGoodLife(t *testing.T) {
	n := newNode(t)
	clk := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := n.runClock(clk, quiet, spec{Name: "a"})
	for i, life := range []struct {
		lived time.Duration
		ms    int
	}{{0, 100}, {time.Second, 200}, {goodLife - 1, 400}, {goodLife, 100}, {0, 200}} {
		delay := time.Duration(life.ms) * time.Millisecond
		c := s.await("a", func(c ChildStatus) bool { return c.State == Ready && c.Restarts == i })
		clk.Step(life.lived)
		if err := syscall.Kill(c.PID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		c = s.await("a", func(c ChildStatus) bool { return c.State == Backoff })
		if got := c.NextStart.Sub(c.Since); got != delay || c.LastExit != "exit status 0" {
			t.Errorf("after %s the wait is %s, want %s: %+v", life.lived, got, delay, c)
		}
		clk.Step(delay)
	}
	s.await("a", isReady)
}

func TestKilledChild(t *testing.T) {
	n := newNode(t)
	s := n.run(quiet, nil, spec{Name: "first"}, spec{Name: "second", After: []string{"first"}})
	second := s.await("second", isReady)
	first := s.child("first")
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := s.await("first", func(c ChildStatus) bool { return c.State == Ready && c.PID != first.PID })
	if again.Restarts != 1 || again.LastExit != "signal: killed" {
		t.Errorf("%+v", again)
	}
	if c := s.child("second"); c.PID != second.PID || c.Restarts != 0 || c.State != Ready {
		t.Errorf("the dependent was touched: %+v", c)
	}
}

func TestCannotStart(t *testing.T) {
	n := newNode(t)
	missing := n.file("missing")
	s := n.run(quiet, nil, spec{Name: "a", Path: missing})
	c := s.await("a", func(c ChildStatus) bool { return c.State == Backoff })
	if !strings.Contains(c.LastError, "find executable: stat "+missing+": no such file or directory") {
		t.Errorf("%+v", c)
	}
	if err := os.WriteFile(missing, []byte("\x7fELF, but not really"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.await("a", func(c ChildStatus) bool { return strings.Contains(c.LastError, "exec format error") })
	if records, err := readRecords(n.layout()); err != nil || len(records) > 0 {
		t.Errorf("records of what never ran: %v, %v", records, err)
	}
	copyTestBinary(t, missing)
	s.await("a", isReady)
}

func copyTestBinary(t *testing.T, to string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// By another process, as an upgrade does: were the file open for writing here
	// while a child is forked, it could not be executed.
	if err := os.WriteFile(to+".new", text, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

func TestKillsWhatDoesNotEnd(t *testing.T) {
	n := newNode(t)
	var log recorder
	s := n.run(log.logger(), nil, spec{Name: "deaf", Words: []string{"ignore"}, Grace: 50 * time.Millisecond})
	s.await("deaf", isReady)
	s.stop()
	if c := s.child("deaf"); c.LastExit != "signal: killed" {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(log.String(), "level=WARN msg=\"killing, since it does not end\"") {
		t.Errorf("no warning in:\n%s", log.String())
	}
}

func TestStopSignal(t *testing.T) {
	n := newNode(t)
	s := n.run(quiet, nil, spec{Name: "a", Signal: syscall.SIGUSR1})
	s.await("a", isReady)
	s.stop()
	if c := s.child("a"); c.LastExit != "exit status 10" {
		t.Errorf("%+v", c)
	}
}

// inherited describes what this process got from the one that started it.
func inherited() []byte {
	var b bytes.Buffer
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		// The Go runtime opens the rest itself.
		target, err := os.Readlink(fd)
		if err == nil && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			fmt.Fprintln(&b, "file", filepath.Base(fd), target)
		}
	}
	for _, entry := range os.Environ() {
		fmt.Fprintln(&b, "env", entry)
	}
	sid, _ := unix.Getsid(0)
	group := unix.Getpgrp()
	fmt.Fprintln(&b, "leader", sid == os.Getpid(), group == os.Getpid())
	adj, _ := os.ReadFile("/proc/self/oom_score_adj")
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	dir, _ := os.Getwd()
	fmt.Fprintln(&b, "limits", strings.TrimSpace(string(adj)), limit.Max, dir)
	return b.Bytes()
}

func TestInherited(t *testing.T) {
	n := newNode(t)
	leak, w, err := os.Pipe() // as from a careless library: open across execution
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	defer w.Close()
	if _, err := unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	s := n.run(quiet, nil, spec{
		Name: "a", Words: []string{"inherited"}, OOM: new(500), Files: 512,
		Env: []string{"NOTIFY_SOCKET=/x", "WATCHDOG_USEC=1", "LISTEN_FDS=2", "HTTPS_PROXY=http://proxy.example:3128"},
	})
	s.await("a", isReady)
	got, err := os.ReadFile(n.file("inherited"))
	if err != nil {
		t.Fatal(err)
	}
	log := n.layout().Log("a")
	want := fmt.Sprintf("file 0 /dev/null\nfile 1 %s\nfile 2 %s\nenv HTTPS_PROXY=http://proxy.example:3128\nleader true true\nlimits 500 512 /\n", log, log)
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What needs CAP_SYS_RESOURCE is done, or said, and once only.
func TestUnprivilegedLimits(t *testing.T) {
	n := newNode(t)
	var log recorder
	s := n.run(log.logger(), nil, spec{Name: "a", Words: []string{"inherited"}, OOM: new(-999), Files: 1 << 20})
	c := s.await("a", isReady)
	if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.await("a", func(c ChildStatus) bool { return c.State == Ready && c.Restarts == 1 })
	got, err := os.ReadFile(n.file("inherited"))
	if err != nil {
		t.Fatal(err)
	}
	for set, warning := range map[string]string{
		"limits -999 ": "oom_score_adj stays as it is, -999 needs CAP_SYS_RESOURCE",
		" 1048576 /":   "instead of 1048576: that needs CAP_SYS_RESOURCE",
	} {
		warned := strings.Count(log.String(), warning)
		if done := strings.Contains(string(got), set); done && warned > 0 || !done && warned != 1 {
			t.Errorf("%q is %v, and was warned of %d times:\n%s", set, done, warned, log.String())
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"PATH=/bin", "NOTIFY_SOCKET=/run/systemd/notify", "SSH_TTY=/dev/pts/0", "INVOCATION_ID=1",
		"SHLVL=1", "_=/bin/x", "GOGC=50", "JOURNAL_STREAM=9:1", "SHELLS=x", "WATCHDOG_PID=1"})
	if want := []string{"PATH=/bin", "GOGC=50", "SHELLS=x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSystemd(t *testing.T) {
	n := newNode(t)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.file("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", n.file("notify"))
	told := make(chan string, 100)
	go func() {
		for buffer := make([]byte, 4096); ; {
			size, err := socket.Read(buffer)
			if err != nil {
				close(told)
				return
			}
			told <- string(buffer[:size])
		}
	}()
	until := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-told:
				if got == want {
					return
				}
				if got == "READY=1" || got == "STOPPING=1" {
					t.Fatalf("got %s before %s", got, want)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("never told %s", want)
			}
		}
	}
	var open sync.Mutex
	open.Lock()
	s := n.run(quiet, nil, spec{Name: "a"}, spec{Name: "b", After: []string{"a"}, Ready: func(context.Context) error {
		if !open.TryLock() {
			return errors.New("closed")
		}
		return nil
	}})
	until("STATUS=b is starting (closed)")
	open.Unlock()
	until("STATUS=ready")
	until("READY=1")
	s.stop()
	until("STOPPING=1")
}

func TestServe(t *testing.T) {
	n := newNode(t)
	if _, err := ReadStatus(t.Context(), n.layout()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want %v", err, ErrNotRunning)
	}
	s := n.run(quiet, nil, spec{Name: "a"})
	got := n.awaitReady(os.Getpid())
	want := s.Status()
	if len(got.Children) != 1 || got.Children[0].PID != want.Children[0].PID || got.Children[0].LogFile != n.layout().Log("a") {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// Two data folders do not share a run folder, for the processes are recorded there.
	l := n.layout()
	l.Data = n.file("other")
	lock, err := Acquire(t.Context(), l)
	must(t, err)
	defer lock.Close()
	other, err := New(lock, nil, quiet)
	must(t, err)
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another waggle-kube answers there") {
		t.Errorf("got %v", err)
	}
	s.stop()
	if _, err := os.Lstat(n.layout().Socket(socketName)); err == nil {
		t.Error("the socket is left behind")
	}
}

func TestRotateWhileRunning(t *testing.T) {
	n := newNode(t)
	s := n.run(quiet, func(s *Supervisor) {
		s.rotation = rotation{size: 1000, keep: 2}
		s.rotateEvery = time.Millisecond
	}, spec{Name: "a", Words: []string{"spam=1000"}})
	c := s.await("a", isReady)
	log := n.layout().Log("a")
	await.Until(t, func() error {
		if size(log) > 1000 {
			return fmt.Errorf("%d bytes", size(log))
		}
		_, err := os.Stat(log + ".1")
		return err
	})
	if s.child("a").PID != c.PID || n.isRunning("a") != nil {
		t.Error("the child did not survive it")
	}
}

func TestComplete(t *testing.T) {
	child := func(name string, after ...string) Child {
		return Child{Name: name, Path: "/bin/x", LogFile: "/x.log", After: after}
	}
	for want, children := range map[string][]Child{
		"":                                {child("a", "b", "c"), child("b", "c"), child("c")},
		"child a is there twice":          {child("a"), child("a")},
		`child a: after "b", which is no`: {child("a", "b")},
		"child a waits for itself":        {child("a", "b"), child("b", "c"), child("c", "a")},
		"child b waits for itself":        {child("a", "b"), child("b", "b")},
		`child "../a": the name must be`:  {child("../a")},
		`path "x" is not absolute`:        {{Name: "a", Path: "x", LogFile: "/x"}},
		`log file "" is not absolute`:     {{Name: "a", Path: "/x"}},
	} {
		_, err := complete(children)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
