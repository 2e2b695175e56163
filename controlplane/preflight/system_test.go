// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/internal/daemon"
)

// A port that this process has is found with its name and number, as long as it
// has it.
func TestRealPorts(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	holder := fmt.Sprintf("is taken by %s (pid %d)", strings.TrimSpace(string(comm)), os.Getpid())
	for _, host := range []string{"127.0.0.1", "::1"} {
		addr := netip.MustParseAddr(host)
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		ports := []Port{
			{uint16(l.Addr().(*net.TCPAddr).Port), "tcp", addr, "a test", "test.port"},
			{uint16(c.LocalAddr().(*net.UDPAddr).Port), "udp", addr, "a test", ""},
		}
		p := &probe{Input{Ports: ports}, realMachine()}
		all := p.ports(t.Context())
		if len(all) != len(ports) {
			t.Errorf("%s: found %+v, want %d", host, all, len(ports))
		}
		for _, f := range all {
			if f.Level != Fail || !strings.Contains(f.Message, holder) {
				t.Errorf("%s: found %+v", host, f)
			}
		}
		p.Running, p.Programs = true, []string{exe}
		if all := p.ports(t.Context()); len(all) != 1 || all[0].Level != OK {
			t.Errorf("%s: as ours: found %+v", host, all)
		}
		l.Close()
		c.Close()
		p.Running = false
		if all := p.ports(t.Context()); len(all) != 1 || all[0].Level != OK {
			t.Errorf("%s: after closing: found %+v", host, all)
		}
	}
	p := &probe{Input{Ports: []Port{{1, "tcp", netip.MustParseAddr("192.0.2.1"), "a test", ""}}}, realMachine()}
	if all := p.ports(t.Context()); len(all) != 1 || !strings.Contains(all[0].Message, "not an address of this machine") {
		t.Errorf("an address of nobody: found %+v", all)
	}
}

func TestRealDisk(t *testing.T) {
	dir := t.TempDir()
	times, err := syncTimes(t.Context(), dir)
	if err != nil || len(times) == 0 || slices.Min(times) <= 0 {
		t.Errorf("times %v, %v", times, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := syncTimes(t.Context(), filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there can be written to")
	}
	st, err := statfs(dir)
	if err != nil || st.Blocks == 0 || st.Frsize == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

func TestRealAddresses(t *testing.T) {
	all, err := deviceAddresses()
	if want := (deviceAddress{"lo", netip.MustParsePrefix("127.0.0.1/8")}); err != nil || !slices.Contains(all, want) {
		t.Errorf("%v, %v lack %v", all, err, want)
	}
}

func TestIsExecutable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dir, filepath.Join(dir, "none")} {
		if isExecutable(path) == nil {
			t.Errorf("%s can be executed", path)
		}
	}
	if err := isExecutable("/proc/self/exe"); err != nil {
		t.Error(err)
	}
}

func TestBuildTime(t *testing.T) {
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.time", Value: "2026-05-01T10:00:00Z"}}}
	if got, want := buildTime(info), time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("built at %s, want %s", got, want)
	}
	if got := buildTime(nil); !got.IsZero() {
		t.Errorf("no build info is %s", got)
	}
}

// What waggled says is understood: each line, whatever this kernel offers.
func TestWaggledCheck(t *testing.T) {
	var text bytes.Buffer
	_ = daemon.Check(&text) // what it lacks here is of no matter
	heading, features, _ := strings.Cut(text.String(), "\n")
	n := strings.Count(features, "\n")
	if got := len(feature.FindAllString(features, -1)); n < 3 || got != n || feature.MatchString(heading) {
		t.Errorf("%d of %d lines are features, or the heading is:\n%s", got, n, text.String())
	}

	waggled := filepath.Join(t.TempDir(), "waggled")
	script := "#!/bin/sh\n[ \"$*\" = check ] || exit 9\necho 'tcx  absent  for speed'\necho 'waggled: it will not do' >&2\nexit 1\n"
	if err := os.WriteFile(waggled, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	said, err := waggledCheck(t.Context(), waggled)
	if said != "tcx  absent  for speed\n" || err == nil || err.Error() != "it will not do" {
		t.Errorf("it said %q, %v", said, err)
	}
	if _, err := waggledCheck(t.Context(), waggled+"-none"); err == nil {
		t.Error("a program that is not there succeeded")
	}
}

// What is read of an address or a route is valid, whatever the text.
func FuzzNetworkFiles(f *testing.F) {
	f.Add("   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1\n")
	f.Add("   0: 00000000000000000000000001000000:192B 0:0 0A 0:0 0:0 0 0 0 2001 1\n")
	f.Add("eth0\t0002F40A\t0B0200C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
	f.Add("fd000244000000020000000000000000 40 0 00 0 00000400 00000001 00000000 00000003     eth0\n")
	f.Add("nameserver fe80::1%eth0\nnameserver 192.0.2.53\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseSockets(text) {
			if !s.local.IsValid() || s.local.Addr().Is4In6() {
				t.Errorf("socket %+v", s)
			}
		}
		for _, u := range append(parseRoutes4(text), parseRoutes6(text)...) {
			if !u.prefix.IsValid() || u.prefix != u.prefix.Masked() || u.device == "" {
				t.Errorf("route %+v", u)
			}
		}
		for _, a := range nameservers(text) {
			if !a.IsValid() {
				t.Errorf("name server %v", a)
			}
		}
	})
}
