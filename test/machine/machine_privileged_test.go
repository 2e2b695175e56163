// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package machine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/await"
)

// TestMachine walks one machine through its life: booting is what takes time.
func TestMachine(t *testing.T) {
	start := time.Now()
	m := ForTest(t, Options{Network: true, Files: map[string]string{
		"/usr/local/bin/greet": script(t, "#!/bin/sh\necho \"$GREETING\"; cat; echo aside >&2; exit 3\n"),
	}})
	t.Logf("made and booted in %s", time.Since(start).Round(time.Millisecond))
	if err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("settled after %s", time.Since(start).Round(time.Millisecond))

	t.Run("System", func(t *testing.T) { testSystem(t, m) })
	t.Run("Files", func(t *testing.T) { testFiles(t, m) })
	t.Run("Commands", func(t *testing.T) { testCommands(t, m) })
	t.Run("Network", func(t *testing.T) { testNetwork(t, m) })
	t.Run("Clock", func(t *testing.T) { testClock(t, m) })
	t.Run("Reboot", func(t *testing.T) { testReboot(t, m) })
	t.Run("PowerCut", func(t *testing.T) { testPowerCut(t, m) })
	t.Run("Panic", func(t *testing.T) { testPanic(t, m) })
}

// testSystem: it is what users have.
func testSystem(t *testing.T, m *Machine) {
	for _, tt := range []struct{ command, want string }{
		{"systemctl is-system-running", "running\n"},
		{"cat /proc/1/comm", "systemd\n"},
		{"uname -r", m.kernel.Release + "\n"},
		{"stat -f -c %T /sys/fs/cgroup", "cgroup2fs\n"},
		{"stat -f -c %T /", "ext2/ext3\n"},
		{"hostname", "machine\n"},
		{"nproc", "1\n"},
	} {
		if got := output(t, m, strings.Fields(tt.command)...); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.command, got, tt.want)
		}
	}
	controllers := strings.Fields(output(t, m, "cat", "/sys/fs/cgroup/cgroup.controllers"))
	for _, want := range []string{"cpu", "cpuset", "memory", "pids", "io"} {
		if !slices.Contains(controllers, want) {
			t.Errorf("controllers are %s, want %s, too", controllers, want)
		}
	}
	if got := output(t, m, "runc", "--version"); !strings.HasPrefix(got, "runc version 1.") {
		t.Errorf("runc says %q", got)
	}
	// A module that nothing has asked for yet.
	output(t, m, "modprobe", "overlay")
}

// testFiles: any bytes and any mode, both ways.
func testFiles(t *testing.T, m *Machine) {
	if got := output(t, m, "stat", "-c", "%a %U %G", "/usr/local/bin/greet"); got != "755 root root\n" {
		t.Errorf("the file given is %q, want it executable and root's", got)
	}
	data := bytes.Repeat([]byte("\x00\xff\r\n\x1b{}\n"), 100_000)
	if err := m.WriteFile(t.Context(), "/root/data", data, 0o640); err != nil {
		t.Fatal(err)
	}
	got, err := m.ReadFile(t.Context(), "/root/data")
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes, %v, want the %d written", len(got), err, len(data))
	}
	if got := output(t, m, "stat", "-c", "%a", "/root/data"); got != "640\n" {
		t.Errorf("mode is %q, want 640", got)
	}
	if _, err := m.ReadFile(t.Context(), "/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read an absent file: %v, want %v", err, fs.ErrNotExist)
	}
	if err := m.WriteFile(t.Context(), "/absent/file", nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write into an absent folder: %v, want %v", err, fs.ErrNotExist)
	}
}

func testCommands(t *testing.T, m *Machine) {
	got, err := m.RunCommand(t.Context(), Command{Args: []string{"greet"}, Stdin: []byte("in\n"), Env: []string{"GREETING=hello"}})
	if want := (Result{Code: 3, Stdout: "hello\nin\n", Stderr: "aside\n"}); err != nil || *got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := m.Output(t.Context(), "greet"); err == nil || !strings.Contains(err.Error(), "exit code 3: aside") {
		t.Errorf("output of a failing command: %v", err)
	}
	if _, err := m.Run(t.Context(), "/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("run an absent program: %v, want %v", err, fs.ErrNotExist)
	}
	if got, err := m.Run(t.Context(), "sh", "-c", "kill -TERM $$"); err != nil || got.Code != 128+int(syscall.SIGTERM) {
		t.Errorf("killed by itself: %+v, %v", got, err)
	}

	// The end of ctx ends the command, while others go on.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := m.Run(ctx, "sh", "-c", "touch /run/started; sleep 1000000; true")
		ended <- err
	}()
	await.Until(t, func() error {
		_, err := m.ReadFile(t.Context(), "/run/started")
		return err
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	await.Until(t, func() error {
		r, err := m.Run(t.Context(), "pgrep", "-f", "sleep 1000000")
		if err == nil && r.Code == 0 {
			err = errors.New("the canceled command runs on")
		}
		return err
	})
}

// testNetwork: addresses and routes of both families, and no way out.
func testNetwork(t *testing.T, m *Machine) {
	for _, tt := range []struct{ command, want string }{
		{"ip -br -4 addr show eth0", IPv4 + "/24"},
		{"ip -br -6 addr show eth0 scope global", IPv6 + "/64"},
		{"ip -4 route show default", "default via " + gateway4 + " dev eth0"},
		{"ip -6 route show default", "default via " + gateway6 + " dev eth0"},
	} {
		if got := output(t, m, strings.Fields(tt.command)...); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.command, got, tt.want)
		}
	}
	// QEMU shows the loopback of this machine as its gateway, unless forbidden.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan struct{})
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
			close(reached)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r, err := m.Run(t.Context(), "timeout", "3", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", gateway4, port))
	if err != nil || r.Code == 0 {
		t.Errorf("connect to this machine: %+v, %v, want a failure", r, err)
	}
	select {
	case <-reached:
		t.Error("the guest has reached this machine")
	default:
	}
}

// testClock: a moved clock stays moved, see the next two tests, too.
func testClock(t *testing.T, m *Machine) {
	if err := m.SetClock(t.Context(), movedTo); err != nil {
		t.Fatal(err)
	}
	expectMovedClock(t, m)
}

var movedTo = time.Date(2031, 5, 17, 10, 0, 0, 0, time.UTC)

func expectMovedClock(t *testing.T, m *Machine) {
	t.Helper()
	if got := output(t, m, "date", "-u", "+%F"); got != "2031-05-17\n" {
		t.Errorf("the machine's date is %q, want 2031-05-17", got)
	}
}

// testReboot: the disk keeps what was written, memory does not.
func testReboot(t *testing.T, m *Machine) {
	output(t, m, "sh", "-c", "echo kept > /root/kept; touch /run/lost")
	before := output(t, m, "cat", "/proc/sys/kernel/random/boot_id")
	start := time.Now()
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("rebooted in %s", time.Since(start).Round(time.Millisecond))
	if after := output(t, m, "cat", "/proc/sys/kernel/random/boot_id"); after == before {
		t.Errorf("boot id is %q as before", after)
	}
	if got := output(t, m, "cat", "/root/kept"); got != "kept\n" {
		t.Errorf("the file has %q after a reboot", got)
	}
	if _, err := m.ReadFile(t.Context(), "/run/lost"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file in memory after a reboot: %v, want %v", err, fs.ErrNotExist)
	}
	expectMovedClock(t, m)
	if got := output(t, m, "journalctl", "-q", "-b", "-1", "-u", agentUnit); !strings.Contains(got, "Started "+agentUnit) {
		t.Errorf("the journal of the boot before has %q of the agent", got)
	}
}

// testPowerCut: what is synced stays, what is not is lost, and it boots again.
func testPowerCut(t *testing.T, m *Machine) {
	output(t, m, "sh", "-c", "echo synced > /root/synced; sync; echo not > /root/unsynced")
	m.Kill()
	if _, err := m.Run(t.Context(), "true"); err == nil || !strings.Contains(err.Error(), "machine is off") {
		t.Errorf("run a command while off: %v", err)
	}
	start := time.Now()
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("booted in %s", time.Since(start).Round(time.Millisecond))
	if err := m.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	if got := output(t, m, "cat", "/root/synced"); got != "synced\n" {
		t.Errorf("the synced file has %q", got)
	}
	if got, err := m.ReadFile(t.Context(), "/root/unsynced"); len(got) != 0 {
		t.Errorf("the file that was not synced has %q, %v: was the power cut?", got, err)
	}
	expectMovedClock(t, m)
}

// testPanic: a kernel that panics is an error that shows it, for what is under
// way and for what comes after.
func testPanic(t *testing.T, m *Machine) {
	for range 2 {
		_, err := m.Run(t.Context(), "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000000")
		if err == nil || !strings.Contains(err.Error(), "kernel panicked: ") || !strings.Contains(err.Error(), "sysrq triggered crash") {
			t.Errorf("a panic is the error %v", err)
		}
	}
}

// TestEndsWithItsProcess: a test that is killed leaves neither QEMU nor a disk.
func TestEndsWithItsProcess(t *testing.T) {
	helper := exec.CommandContext(t.Context(), os.Args[0])
	helper.Env = append(os.Environ(), helperEnv+"=1")
	console, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	helper.Stderr = t.Output()
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(console).ReadString('\n'); err != nil {
		t.Fatalf("the machine says nothing: %v", err)
	}
	machines := children(t, helper.Process.Pid)
	if len(machines) != 1 {
		t.Fatalf("the helper has the children %v, want QEMU alone", machines)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait() // says that it was killed
	await.Until(t, func() error {
		stat, err := os.ReadFile("/proc/" + machines[0] + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("QEMU is there: %s", stat)
		}
		return nil
	})
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "waggle/machine/*/disk-*")); len(left) > 0 {
		t.Errorf("disks are left: %v", left)
	}
}

// helperEnv makes the test binary start a machine, show its console and wait.
const helperEnv = "WAGGLE_MACHINE_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	_, err := Start(context.Background(), Options{Log: os.Stdout})
	fmt.Fprintln(os.Stderr, err) // killed before
	os.Exit(1)
}

// children returns the processes that a process's threads have started.
func children(t *testing.T, pid int) []string {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(b))...)
	}
	return pids
}

func output(t *testing.T, m *Machine, args ...string) string {
	t.Helper()
	out, err := m.Output(t.Context(), args[0], args[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
