// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/await"
)

func pids(s *Status) (out []int) {
	for _, c := range s.Children {
		out = append(out, c.PID)
	}
	return out
}

func TestAdoptsAfterKill(t *testing.T) {
	n := newNode(t)
	specs := []spec{{Name: "first"}, {Name: "second", After: []string{"first"}}, {Name: "kept", Keep: true}}
	killed := n.start(specs...)
	before := n.awaitReady(killed.Process.Pid)
	kill(killed)

	next := n.start(specs...)
	after := n.awaitReady(next.Process.Pid)
	if !slices.Equal(pids(before), pids(after)) {
		t.Errorf("processes were %v, are %v", pids(before), pids(after))
	}
	for i, c := range after.Children {
		if !c.Adopted || c.Restarts != 0 || !c.Started.Equal(before.Children[i].Started) {
			t.Errorf("%+v", c)
		}
	}
	// What is adopted is stopped like own children, or left.
	if err := next.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := next.Wait(); err != nil {
		t.Fatal(err)
	}
	n.inOrder("start second", "stop second", "stop first")
	if got := n.processes(""); !slices.Equal(got, []int{before.Children[2].PID}) {
		t.Errorf("%v run, want %d alone", got, before.Children[2].PID)
	}
	last := n.run(quiet, nil, specs...)
	if c := last.await("kept", isReady); !c.Adopted || c.PID != before.Children[2].PID {
		t.Errorf("%+v", c)
	}
	last.await("second", isReady)
	if n.count("start kept") != 1 || n.count("start first") != 2 {
		t.Errorf("events: %q", n.events())
	}
}

func TestAdoptedChildEnds(t *testing.T) {
	n := newNode(t)
	killed := n.start(spec{Name: "a"})
	pid := n.awaitReady(killed.Process.Pid).Children[0].PID
	kill(killed)
	s := n.run(quiet, nil, spec{Name: "a"})
	s.await("a", isReady)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c := s.await("a", func(c ChildStatus) bool { return c.State == Ready && c.PID != pid })
	if c.Adopted || c.Restarts != 1 || !strings.HasPrefix(c.LastExit, "unknown") {
		t.Errorf("%+v", c)
	}
}

// leave starts a child and a supervisor that leaves it running.
func (n *node) leave(s spec) (pid int) {
	n.t.Helper()
	s.Keep = true
	killed := n.start(s)
	pid = n.awaitReady(killed.Process.Pid).Children[0].PID
	kill(killed)
	return pid
}

func TestReplacesChanged(t *testing.T) {
	for name, row := range map[string]struct {
		change  func(*testing.T, *spec)
		adopted bool
	}{
		"nothing":     {func(*testing.T, *spec) {}, true},
		"arguments":   {func(_ *testing.T, s *spec) { s.Words = []string{"say=hello"} }, false},
		"environment": {func(_ *testing.T, s *spec) { s.Env = []string{"A=2", "B=1"} }, false},
		"order":       {func(_ *testing.T, s *spec) { s.Env = []string{"B=1", "A=1"} }, true},
		"limits":      {func(_ *testing.T, s *spec) { s.OOM = new(501) }, false},
		"program":     {func(t *testing.T, s *spec) { copyTestBinary(t, s.Path) }, false},
		"touched":     {func(t *testing.T, s *spec) { must(t, os.Chtimes(s.Path, time.Now(), time.Unix(1e9, 0))) }, false},
		"missing":     {func(t *testing.T, s *spec) { must(t, os.Remove(s.Path)) }, true},
		"stopping":    {func(_ *testing.T, s *spec) { s.Grace, s.Signal = time.Minute, unix.SIGUSR1 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			change := spec{Name: "a", Path: n.file("program"), Env: []string{"A=1", "B=1"}, Keep: true}
			copyTestBinary(t, change.Path)
			pid := n.leave(change)
			row.change(t, &change)
			s := n.run(quiet, nil, change)
			if c := s.await("a", isReady); (c.PID == pid) != row.adopted || c.Adopted != row.adopted {
				t.Errorf("%d is now %+v", pid, c)
			}
			if got := n.events(); !row.adopted && !slices.Equal(got, []string{"start a", "stop a", "start a"}) {
				t.Errorf("events: %q", got)
			}
			if r, err := readRecord(n.layout().ProcessFile("a")); err != nil ||
				r.StopGrace != s.runners[0].StopGrace || r.StopSignal != s.runners[0].StopSignal {
				t.Errorf("recorded: %+v, %v", r, err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A changed child is stopped only when it can be started again.
func TestReplacesWhenDependenciesAreReady(t *testing.T) {
	n := newNode(t)
	pid := n.leave(spec{Name: "a"})
	gate := make(chan struct{})
	s := n.run(quiet, nil,
		spec{Name: "a", After: []string{"b"}, Words: []string{"say=hello"}},
		spec{Name: "b", Ready: func(ctx context.Context) error {
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
	s.await("b", func(c ChildStatus) bool { return c.State == Starting && n.isRunning("b") == nil })
	if c := s.child("a"); c.State != Waiting || c.PID != pid || n.isRunning("a") != nil {
		t.Errorf("%+v", c)
	}
	close(gate)
	s.await("a", isReady)
	n.inOrder("start a", "start b", "stop a")
}

func TestStopsWhatIsNotConfiguredAnyMore(t *testing.T) {
	n := newNode(t)
	n.leave(spec{Name: "old"})
	s := n.run(quiet, nil, spec{Name: "new"})
	s.await("new", isReady)
	if got := n.events(); !slices.Equal(got, []string{"start old", "stop old", "start new"}) {
		t.Errorf("events: %q", got)
	}
}

// Records that name no process of ours, though a process has the number.
func TestForeignProcess(t *testing.T) {
	for name, change := range map[string]func(*record){
		"reused number": func(r *record) { r.Start-- },
		"other boot":    func(r *record) { r.Boot = "3f1c9c1e-8b6a-4a53-9d0c-0a2b6f0f9a11" },
		"no process":    func(r *record) { r.PID = 0 },
		"negative":      func(r *record) { r.PID = -1 },
		"init":          func(r *record) { r.PID = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			foreign := exec.Command("/proc/self/exe", "child", n.dir, "foreign")
			must(t, foreign.Start())
			defer kill(foreign)
			await.Until(t, func() error { return n.isRunning("foreign") })
			id, err := identify(foreign.Process.Pid)
			must(t, err)
			own := n.children([]spec{{Name: "a"}})
			own, err = complete(own)
			must(t, err)
			exe, err := executable(own[0].Path)
			must(t, err)
			r := record{identity: id, Name: "a", Command: own[0].command(), Executable: exe, StopSignal: unix.SIGTERM, StopGrace: time.Second}
			change(&r)
			must(t, r.write(n.layout().ProcessFile("a")))

			s := n.run(quiet, nil, spec{Name: "a"})
			if c := s.await("a", isReady); c.Adopted || c.PID == foreign.Process.Pid {
				t.Errorf("%+v", c)
			}
			s.stop()
			must(t, r.write(n.layout().ProcessFile("a")))
			must(t, StopAll(t.Context(), n.layout(), quiet))
			if _, err := os.Stat(n.layout().ProcessFile("a")); err == nil {
				t.Error("the record is still there")
			}
			must(t, n.isRunning("foreign"))
			if n.count("stop foreign") > 0 {
				t.Error("a foreign process was stopped")
			}
		})
	}
}

func TestDamagedRecord(t *testing.T) {
	n := newNode(t)
	file := n.layout().ProcessFile("a")
	must(t, (&record{}).write(file))
	must(t, os.WriteFile(file, []byte(`{"pid": `), 0o600))
	var log recorder
	s := n.run(log.logger(), nil, spec{Name: "a"})
	s.await("a", isReady)
	if !strings.Contains(log.String(), "discarding a record") {
		t.Errorf("nothing said:\n%s", log.String())
	}
}

func TestOneSupervisor(t *testing.T) {
	n := newNode(t)
	first := n.start(spec{Name: "a"})
	n.awaitReady(first.Process.Pid)
	want := fmt.Sprintf("another waggle-kube (pid %d) runs on this data folder: stop it first", first.Process.Pid)
	if _, err := Acquire(t.Context(), n.layout()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	second := n.start(spec{Name: "a"})
	if err := second.Wait(); err == nil {
		t.Error("a second one ended without an error")
	}
	kill(first) // the kernel gives the lock back
	lock, err := Acquire(t.Context(), n.layout())
	must(t, err)
	must(t, lock.Close())
	if n.count("start a") != 1 {
		t.Errorf("events: %q", n.events())
	}
}

// The supervisor dies right after a fork: the lock is not given up before the
// process is recorded, or gone.
func TestDeathAfterFork(t *testing.T) {
	for _, lives := range []bool{true, false} {
		t.Run(fmt.Sprint("launcher lives ", lives), func(t *testing.T) {
			n := newNode(t)
			reader, writer, err := os.Pipe()
			must(t, err)
			defer writer.Close()
			dying := exec.Command("/proc/self/exe", "fork", n.dir, "a")
			dying.ExtraFiles = []*os.File{reader}
			must(t, dying.Run())
			reader.Close()

			file, err := os.Open(n.layout().LockFile())
			must(t, err)
			defer file.Close()
			if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
				t.Fatalf("the lock of the dead: %v", err)
			}
			acquired := make(chan error, 1)
			var lock *Lock
			go func() {
				var err error
				lock, err = Acquire(t.Context(), n.layout())
				acquired <- err
			}()
			if lives {
				k := &Lock{layout: n.layout()}
				c := n.children([]spec{{Name: "a"}})
				c, err = complete(c)
				must(t, err)
				must(t, json.NewEncoder(writer).Encode(k.order(&c[0], &process{since: time.Now()})))
			}
			writer.Close()
			must(t, <-acquired)
			r, err := readRecord(n.layout().ProcessFile("a"))
			must(t, err)
			if (r != nil) != lives {
				t.Fatalf("recorded: %+v", r)
			}
			must(t, lock.Close())
			s := n.run(quiet, nil, spec{Name: "a"})
			if c := s.await("a", isReady); c.Adopted != lives || lives && c.PID != r.PID {
				t.Errorf("%+v", c)
			}
			if n.count("start a") != 1 {
				t.Errorf("events: %q", n.events())
			}
		})
	}
}

// However often and whenever supervisors are killed: of each child one process runs.
func TestKilledAtRandom(t *testing.T) {
	n := newNode(t)
	specs := []spec{{Name: "a"}, {Name: "b"}, {Name: "c", After: []string{"a"}, Keep: true}}
	for i := range 12 {
		specs[1].Words = []string{fmt.Sprint("say=", i/3)} // now and then it is another
		victim := n.start(specs...)
		<-time.After(rand.N(250 * time.Millisecond))
		if i%4 == 3 {
			must(t, victim.Process.Signal(unix.SIGTERM))
			<-time.After(rand.N(20 * time.Millisecond))
		}
		kill(victim)
	}
	s := n.run(quiet, nil, specs...)
	for _, name := range []string{"a", "b", "c"} {
		c := s.await(name, isReady)
		if got := n.processes(name); !slices.Equal(got, []int{c.PID}) {
			t.Errorf("%v run as %s, want %d alone", got, name, c.PID)
		}
	}
}

func TestStopAll(t *testing.T) {
	specs := []spec{{Name: "first"}, {Name: "second", After: []string{"first"}}, {Name: "kept", After: []string{"second"}, Keep: true}}
	for name, end := range map[string]func(*exec.Cmd){
		"while it runs": func(*exec.Cmd) {},
		"killed":        kill,
		"stopped": func(cmd *exec.Cmd) {
			_ = cmd.Process.Signal(unix.SIGTERM)
			_ = cmd.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			supervisor := n.start(specs...)
			n.awaitReady(supervisor.Process.Pid)
			// A deaf parent leaves a zombie, which is as good as dead.
			end(supervisor)
			must(t, StopAll(t.Context(), n.layout(), quiet))
			if left := n.processes(""); len(left) > 0 {
				t.Errorf("%v run", left)
			}
			n.inOrder("start first", "start second", "start kept")
			if name == "killed" {
				n.inOrder("stop kept", "stop second", "stop first")
			} else {
				n.inOrder("stop second", "stop first", "stop kept")
			}
			_ = supervisor.Wait()
			if code := supervisor.ProcessState.ExitCode(); name != "killed" && code != 0 {
				t.Errorf("the supervisor exits with %d", code)
			}
			must(t, StopAll(t.Context(), n.layout(), quiet)) // nothing to do
		})
	}
}

func TestStopAllOfNothing(t *testing.T) {
	n := newNode(t)
	must(t, StopAll(t.Context(), n.layout(), quiet))
	if _, err := os.Stat(n.layout().Data); err == nil {
		t.Error("it made a data folder")
	}
}

func TestIndependent(t *testing.T) {
	names := func(records []*record) (out []string) {
		for _, r := range records {
			out = append(out, r.Name)
		}
		return out
	}
	for want, records := range map[string][]*record{
		"c":   {{Name: "a"}, {Name: "b", After: []string{"a"}}, {Name: "c", After: []string{"a", "b", "gone"}}},
		"a b": {{Name: "a"}, {Name: "b"}},
		"x y": {{Name: "x", After: []string{"y"}}, {Name: "y", After: []string{"x"}}},
	} {
		if got := strings.Join(names(independent(records)), " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) R 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"), "x")
	f.Add([]byte("42 (a"), ") Z 1")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		_, _ = parseStat(text)
		// A program may have any name.
		rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
		if s, err := parseStat([]byte("42 (" + name + ")" + rest)); err != nil || !s.alive || s.start != 4711 {
			t.Errorf("named %q: %+v, %v", name, s, err)
		}
		if s, err := parseStat([]byte("42 (" + name + ")" + strings.Replace(rest, "S", "Z", 1))); err != nil || s.alive {
			t.Errorf("zombie named %q: %+v, %v", name, s, err)
		}
	})
}
