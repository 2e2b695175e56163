// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what is asked by system calls, and what is tried, so that tests can
// be another machine. What is in files is read below Input.Root.
type machine struct {
	arch         string
	now          func() time.Time
	clockSynced  func() (bool, error)
	statfs       func(path string) (unix.Statfs_t, error)
	syncTimes    func(ctx context.Context, dir string) ([]time.Duration, error)
	tryOverlay   func(dir string) error
	listen       func(ctx context.Context, p Port) error
	addresses    func() ([]deviceAddress, error)
	findRunc     func() (string, error)
	runcVersion  func(ctx context.Context, path string) (string, error)
	waggledCheck func(ctx context.Context, path string) (string, error)
	isExecutable func(path string) error
}

// deviceAddress is an address of the machine with the length of its network.
type deviceAddress struct {
	device string
	prefix netip.Prefix
}

func realMachine() machine {
	return machine{
		arch:         runtime.GOARCH,
		now:          time.Now,
		clockSynced:  clockSynced,
		statfs:       statfs,
		syncTimes:    syncTimes,
		tryOverlay:   tryOverlay,
		listen:       listen,
		addresses:    deviceAddresses,
		findRunc:     findRunc,
		runcVersion:  runcVersion,
		waggledCheck: waggledCheck,
		isExecutable: isExecutable,
	}
}

func statfs(path string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if !errors.Is(err, unix.EINTR) {
			return st, err
		}
	}
}

func deviceAddresses() ([]deviceAddress, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []deviceAddress
	for _, d := range devices {
		addrs, err := d.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, deviceAddress{d.Name, p})
			}
		}
	}
	return all, nil
}

func isExecutable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0 {
		return &fs.PathError{Op: "execute", Path: path, Err: unix.EACCES}
	}
	return nil
}

// findRunc looks where administrators' programs are, too: /usr/sbin is not on
// every path.
func findRunc() (string, error) {
	path, err := exec.LookPath("runc")
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, "runc"))
	}
	return path, err
}

func runcVersion(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	return string(out), err
}

// waggledCheck returns what waggled says of the kernel, also with its error, whose
// words are waggled's.
func waggledCheck(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "check").Output()
	if exit, failed := errors.AsType[*exec.ExitError](err); failed && len(exit.Stderr) > 0 {
		err = errors.New(strings.TrimPrefix(strings.TrimSpace(string(exit.Stderr)), "waggled: "))
	}
	return string(out), err
}

// buildTime is the time of the commit that this program was built from.
func buildTime(info *debug.BuildInfo) time.Time {
	if info == nil {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value) // an odd one is as none
			return t
		}
	}
	return time.Time{}
}

// read is a file of the system without white space around it; one that cannot
// be read is as one that is not there.
func (p *probe) read(elem ...string) (text string, found bool) {
	b, err := os.ReadFile(p.path(elem...))
	return strings.TrimSpace(string(b)), err == nil
}

// readInt is the number in a file of the system.
func (p *probe) readInt(elem ...string) (n int64, found bool) {
	text, found := p.read(elem...)
	n, err := strconv.ParseInt(text, 10, 64)
	return n, found && err == nil
}

func (p *probe) exists(elem ...string) bool {
	_, err := os.Stat(p.path(elem...))
	return err == nil
}

// process is one that runs on the machine.
type process struct {
	pid  int
	name string // as the kernel keeps it: at most 15 characters
}

// processes are those in our network namespace: what runs in others, such as a
// kubelet of a cluster in containers, is in nobody's way.
func (p *probe) processes() []process {
	own, _ := os.Readlink(p.path("proc/self/ns/net"))
	entries, _ := os.ReadDir(p.path("proc"))
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, found := p.read("proc", e.Name(), "comm")
		if !found {
			continue
		}
		ns, err := os.Readlink(p.path("proc", e.Name(), "ns/net"))
		if err == nil && own != "" && ns != own {
			continue
		}
		all = append(all, process{pid, name})
	}
	return all
}

// running returns the first process of one of the names.
func (p *probe) running(names ...string) (process, bool) {
	for _, proc := range p.processes() {
		for _, name := range names {
			if proc.name == name[:min(len(name), 15)] {
				return proc, true
			}
		}
	}
	return process{}, false
}

// lexists is exists for symbolic links that lead nowhere, as those in /proc/self/ns.
func (p *probe) lexists(elem ...string) bool {
	_, err := os.Lstat(p.path(elem...))
	return err == nil
}
