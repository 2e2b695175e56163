// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/test/await"
)

// The test binary is also the child, the supervisor that gets killed, and the
// launcher between the two.
func TestMain(m *testing.M) {
	if code, launched := Launch(); launched {
		os.Exit(code)
	}
	if len(os.Args) > 3 {
		switch os.Args[1] {
		case "child":
			// Not os.Exit, in which the race detector waits for a second.
			syscall.Exit(childMain(os.Args[2], os.Args[3], os.Args[4:]))
		case "supervisor":
			os.Exit(supervisorMain(os.Args[2], os.Args[3]))
		case "fork":
			os.Exit(forkMain(os.Args[2], os.Args[3]))
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Exit(m.Run())
}

// childMain does what its words say, and runs until SIGTERM.
func childMain(dir, name string, words []string) int {
	n := node{dir: dir}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGUSR1)
	n.journal("start", name)
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "ignore":
			signal.Ignore(syscall.SIGTERM)
		case "say":
			fmt.Println(value)
		case "exit":
			code, _ := strconv.Atoi(value)
			return code
		case "spam":
			lines, _ := strconv.Atoi(value)
			for i := range lines {
				fmt.Printf("line %06d\n", i)
			}
		case "inherited":
			if err := os.WriteFile(n.file("inherited"), inherited(), 0o600); err != nil {
				return 1
			}
		}
	}
	if err := os.WriteFile(n.file("running-"+name), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return 1
	}
	s := <-stop
	n.journal("stop", name)
	return map[os.Signal]int{syscall.SIGTERM: 0, syscall.SIGUSR1: 10}[s]
}

// spec is a child in few words, so that it can be told to another process.
type spec struct {
	Name   string
	After  []string
	Words  []string
	Env    []string
	Keep   bool
	Path   string
	Grace  time.Duration
	Signal syscall.Signal

	Ready        func(context.Context) error `json:"-"`
	ReadyTimeout time.Duration
	OOM          *int
	Files        uint64
	Slack        time.Duration
}

func (n *node) children(specs []spec) (out []Child) {
	for _, s := range specs {
		path, err := os.Executable()
		if err != nil {
			panic(err)
		}
		if s.Path != "" {
			path = s.Path
		}
		c := Child{
			Name: s.Name, Path: path, Args: append([]string{"child", n.dir, s.Name}, s.Words...), Env: s.Env,
			LogFile: n.layout().Log(s.Name), After: s.After, Ready: s.Ready, ReadyTimeout: s.ReadyTimeout,
			Keep: s.Keep, StopGrace: s.Grace, StopSignal: s.Signal, OOMScoreAdj: s.OOM, OpenFiles: s.Files,
			TimerSlack: s.Slack,
		}
		if c.Ready == nil {
			c.Ready = func(context.Context) error { return n.isRunning(s.Name) }
		}
		out = append(out, c)
	}
	return out
}

// supervisorMain runs until SIGTERM.
func supervisorMain(dir, specs string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	n := node{dir: dir}
	if err := n.superviseSpecs(ctx, specs, log); err != nil {
		log.Error("supervise", "error", err)
		return 1
	}
	return 0
}

func (n *node) superviseSpecs(ctx context.Context, text string, log *slog.Logger) error {
	var specs []spec
	if err := json.Unmarshal([]byte(text), &specs); err != nil {
		return err
	}
	lock, err := Acquire(ctx, n.layout())
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := New(lock, n.children(specs), log)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// forkMain dies between the fork and the order: the launcher's is file 3.
func forkMain(dir, name string) int {
	n := node{dir: dir}
	lock, err := Acquire(context.Background(), n.layout())
	if err != nil {
		return 1
	}
	c := n.children([]spec{{Name: name}})[0]
	if err := c.complete(); err != nil {
		return 1
	}
	if _, err := lock.fork(&c, os.Stderr, os.NewFile(3, "order"), os.Stderr); err != nil {
		return 1
	}
	return 0 // nobody closes anything
}

// node is a data and a run folder, and what happened there.
type node struct {
	t   *testing.T
	dir string
}

func newNode(t *testing.T) *node {
	t.Helper()
	// Short, for the sockets below it.
	dir, err := os.MkdirTemp("", "sv")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t, dir}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := StopAll(ctx, n.layout(), quiet); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			n.dump()
		}
		if left := n.processes(""); len(left) > 0 {
			t.Errorf("still running: %v", left)
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		os.RemoveAll(dir)
	})
	return n
}

func (n *node) dump() {
	text, _ := os.ReadFile(n.file("journal"))
	n.t.Logf("journal:\n%s", text)
	logs, _ := filepath.Glob(n.layout().Log("*"))
	for _, path := range logs {
		n.t.Logf("%s:\n%s", path, tail(path, 0))
	}
}

func (n *node) layout() layout.Layout {
	return layout.Layout{Data: n.file("data"), Run: n.file("run")}
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

// journal writes an event: the order of lines is that of the events.
func (n *node) journal(event, name string) {
	f, err := os.OpenFile(n.file("journal"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, event, name)
}

// events are the lines of the journal.
func (n *node) events() (out []string) {
	f, err := os.Open(n.file("journal"))
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		out = append(out, lines.Text())
	}
	return out
}

// inOrder checks that events happened, each for the first time after the one before.
func (n *node) inOrder(want ...string) {
	n.t.Helper()
	events := n.events()
	last := -1
	for _, w := range want {
		i := slices.Index(events, w)
		if i <= last {
			n.t.Errorf("%q is event %d, the one before it %d, want %q in %q", w, i, last, want, events)
		}
		last = i
	}
}

func (n *node) count(event string) (count int) {
	for _, e := range n.events() {
		if e == event {
			count++
		}
	}
	return count
}

// isRunning says whether the child has come to where it waits for signals.
func (n *node) isRunning(name string) error {
	text, err := os.ReadFile(n.file("running-" + name))
	if err != nil {
		return err
	}
	if pid := string(text); !slices.ContainsFunc(n.processes(name), func(p int) bool { return strconv.Itoa(p) == pid }) {
		return fmt.Errorf("%s runs no more as %s", name, pid)
	}
	return nil
}

// processes are those of a child, or of all, that run, whoever started them.
func (n *node) processes(name string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(dir + "/cmdline")
		args := strings.Split(string(text), "\x00")
		if err != nil || len(args) < 4 || args[2] != n.dir || args[1] != "child" || name != "" && args[3] != name {
			continue
		}
		if stat, err := readStat(pid); err == nil && stat.alive {
			pids = append(pids, pid)
		}
	}
	return pids
}

// start starts a supervisor of its own process, which can be killed.
func (n *node) start(specs ...spec) *exec.Cmd {
	n.t.Helper()
	text, err := json.Marshal(specs)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "supervisor", n.dir, string(text))
	cmd.Stderr = os.Stderr
	if !testing.Verbose() {
		cmd.Stderr = nil
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// kill is kill -9, and returns when it is dead.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// awaitReady waits for the supervisor with this process id.
func (n *node) awaitReady(pid int) *Status {
	n.t.Helper()
	var s *Status
	await.Until(n.t, func() (err error) {
		if s, err = ReadStatus(n.t.Context(), n.layout()); err != nil {
			return err
		}
		if s.PID != pid || !s.Ready {
			return fmt.Errorf("%d says %s", s.PID, s.summary())
		}
		return nil
	})
	return s
}

// running is a supervisor in this process.
type running struct {
	*Supervisor
	n    *node
	stop func()
}

// run starts a supervisor in this process, with settings of the test's.
func (n *node) run(log *slog.Logger, tune func(*Supervisor), specs ...spec) *running {
	n.t.Helper()
	lock, err := Acquire(n.t.Context(), n.layout())
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := New(lock, n.children(specs), log)
	if err != nil {
		n.t.Fatal(err)
	}
	if tune != nil {
		tune(s)
	}
	return n.runSupervisor(lock, s)
}

func (n *node) runSupervisor(lock *Lock, s *Supervisor) *running {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
		lock.Close()
	}
	n.t.Cleanup(stop)
	return &running{s, n, stop}
}

func (r *running) child(name string) ChildStatus {
	for _, c := range r.Status().Children {
		if c.Name == name {
			return c
		}
	}
	return ChildStatus{}
}

// await waits until a child's status is as wanted.
func (r *running) await(name string, want func(ChildStatus) bool) (s ChildStatus) {
	r.n.t.Helper()
	await.Until(r.n.t, func() error {
		s = r.child(name)
		if !want(s) {
			return fmt.Errorf("status is %+v", s)
		}
		return nil
	})
	return s
}

func isReady(s ChildStatus) bool { return s.State == Ready }

var quiet = slog.New(slog.DiscardHandler)
