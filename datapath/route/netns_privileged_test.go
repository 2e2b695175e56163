// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package route

import (
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/internal/nl"
)

// A host is a network namespace that lasts as long as its file is open.
type host struct {
	t  *testing.T
	f  *os.File
	fd int
}

// newHost makes a network namespace with lo up.
func newHost(t *testing.T) *host {
	t.Helper()
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNET)
		var f *os.File
		if err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
		}
		done <- made{f, err}
	}()
	m := <-done
	if m.err != nil {
		t.Fatalf("make network namespace: %v", m.err)
	}
	t.Cleanup(func() { m.f.Close() })
	h := &host{t, m.f, int(m.f.Fd())}
	h.sh("ip link set lo up")
	return h
}

// try runs fn in the host.
func (h *host) try(fn func() error) error { return nl.WithNetNS(h.f, fn) }

// do is try for what must succeed.
func (h *host) do(what string, fn func() error) {
	h.t.Helper()
	if err := h.try(fn); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// sh runs a script in the host and returns what it prints.
func (h *host) sh(script string) string {
	h.t.Helper()
	var out []byte
	h.do(script, func() (err error) {
		out, err = exec.CommandContext(h.t.Context(), "sh", "-euc", script).CombinedOutput()
		if err != nil {
			h.t.Log(string(out))
		}
		return err
	})
	return string(out)
}

var (
	blanks   = regexp.MustCompile(`[ \t]+`)
	counters = regexp.MustCompile(`packets \d+ bytes \d+`)
)

// expect compares what the script prints with the text, but for blanks at the
// ends of lines and counts of packets.
func (h *host) expect(script, want string) {
	h.t.Helper()
	if diff := cmp.Diff(lines(want), lines(h.sh(script))); diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", script, diff)
	}
}

func lines(text string) []string {
	var list []string
	for line := range strings.Lines(counters.ReplaceAllString(text, "")) {
		if line = strings.TrimSpace(blanks.ReplaceAllString(line, " ")); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// link connects the host with another one by a veth pair without addresses of
// its own making. The other end is called eth0.
func (h *host) link(name string, peer *host, mac, peerMAC string) (index int) {
	h.t.Helper()
	h.do("make veth "+name, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		attrs.HardwareAddr = mustMAC(h.t, mac)
		veth := &netlink.Veth{
			LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: mustMAC(h.t, peerMAC),
			PeerNamespace: netlink.NsFd(peer.fd),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		link, err := nl.LinkByName(name)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	})
	up := func(dev string) string {
		return "ip link set " + dev + " addrgenmode none; sysctl -qw net.ipv6.conf." + dev + ".accept_dad=0; ip link set " + dev + " up"
	}
	h.sh(up(name))
	peer.sh(up("eth0"))
	return index
}

func mustMAC(t *testing.T, s string) net.HardwareAddr {
	t.Helper()
	mac, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// manager returns a Manager whose log is the test's.
func (h *host) manager(cfg Config) *Manager {
	return New(cfg, slog.New(slog.NewTextHandler(h.t.Output(), nil)))
}

func (h *host) sync(m *Manager) {
	h.t.Helper()
	h.do("sync", func() error { return m.Sync(h.t.Context()) })
}
