// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (p *probe) ports(ctx context.Context) []Finding {
	var all []Finding
	dying, cancel := context.WithTimeout(ctx, dyingTime)
	defer cancel()
	for _, port := range p.Ports {
		switch err := p.outlast(dying, port); {
		case err == nil:
		case errors.Is(err, unix.EADDRINUSE):
			all = append(all, p.taken(port)...)
		case errors.Is(err, unix.EADDRNOTAVAIL):
			all = append(all, fail("add the address to a device, or correct nodeIPs", "%s is not an address of this machine, and %s wants port %d on it", port.Address, port.Use, port.Number)...)
		default:
			all = append(all, fail(movePort(port), "port %d/%s for %s: %v", port.Number, port.Protocol, port.Use, err)...)
		}
	}
	switch {
	case len(all) > 0:
		return all
	case len(p.Ports) == 0:
		return nil
	case p.Running:
		return ok("all %d are free or ours", len(p.Ports))
	}
	return ok("all %d are free", len(p.Ports))
}

// dyingTime is how long the sockets of a process may outlast it: one that was killed
// gives its memory back first, and nobody can see it meanwhile.
const dyingTime = 5 * time.Second

// outlast tries a port until it is free, or somebody who can be seen has it.
func (p *probe) outlast(dying context.Context, port Port) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		// Not with the time that is limited: the answer counts.
		err := p.listen(context.WithoutCancel(dying), port)
		if !errors.Is(err, unix.EADDRINUSE) || p.holder(port) != 0 {
			return err
		}
		select {
		case <-dying.Done():
			return err
		case <-again.C:
		}
	}
}

// taken says who has a port, unless we do.
func (p *probe) taken(port Port) []Finding {
	who, pid := "by a process that cannot be seen", p.holder(port)
	remedy := movePort(port)
	if pid != 0 {
		dir := strconv.Itoa(pid)
		exe, _ := os.Readlink(p.path("proc", dir, "exe"))
		if p.Running && p.isProgram(exe) {
			return nil
		}
		name, _ := p.read("proc", dir, "comm")
		who = fmt.Sprintf("by %s (pid %d)", name, pid)
		remedy = "stop that process"
		if port.Key != "" {
			remedy += ", or set " + port.Key + " to another port"
		}
	}
	at := ""
	if port.Address.IsValid() {
		at = " on " + port.Address.String()
	}
	return fail(remedy, "port %d/%s%s for %s is taken %s", port.Number, port.Protocol, at, port.Use, who)
}

// isProgram compares names and not paths: what runs may be an earlier version, in
// another folder or removed since.
func (p *probe) isProgram(exe string) bool {
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	return slices.ContainsFunc(p.Programs, func(program string) bool { return filepath.Base(program) == name })
}

func movePort(port Port) string {
	if port.Key == "" {
		return "stop whatever uses it (ss -lntup shows it)"
	}
	return "set " + port.Key + " to another port"
}

// listen takes the port for a moment.
func listen(ctx context.Context, p Port) error {
	network, host := p.Protocol, ""
	if p.Address.IsValid() {
		host = p.Address.String()
		network += "4"
		if p.Address.Is6() {
			network = p.Protocol + "6"
		}
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(p.Number)))
	var lc net.ListenConfig
	if p.Protocol == "udp" {
		c, err := lc.ListenPacket(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return err
	}
	return l.Close()
}

// holder is the process that has the port, 0 if none can be found: a socket of
// the kernel, or of another process namespace.
func (p *probe) holder(port Port) int {
	var inodes, other []string
	for _, family := range []string{"", "6"} {
		text, _ := p.read("proc/net", port.Protocol+family)
		for _, s := range parseSockets(text) {
			switch {
			case s.local.Port() != port.Number || !sameAddress(s.local.Addr(), port.Address):
			case port.Protocol == "udp" || s.state == tcpListen:
				inodes = append(inodes, s.inode)
			default: // a connection from this port: it is in the way, too
				other = append(other, s.inode)
			}
		}
	}
	return p.socketOwner(append(inodes, other...))
}

func sameAddress(have, want netip.Addr) bool {
	return !want.IsValid() || want.IsUnspecified() || have.IsUnspecified() || have.Unmap() == want.Unmap()
}

func (p *probe) socketOwner(inodes []string) int {
	if len(inodes) == 0 {
		return 0
	}
	owner, best := 0, len(inodes)
	procs, _ := os.ReadDir(p.path("proc"))
	for _, e := range procs {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fds, _ := os.ReadDir(p.path("proc", e.Name(), "fd"))
		for _, fd := range fds {
			link, _ := os.Readlink(p.path("proc", e.Name(), "fd", fd.Name()))
			inode, is := strings.CutPrefix(link, "socket:[")
			if i := slices.Index(inodes[:best], strings.TrimSuffix(inode, "]")); is && i >= 0 {
				owner, best = pid, i
			}
		}
	}
	return owner
}

// tcpListen is TCP_LISTEN of the kernel's include/net/tcp_states.h.
const tcpListen = "0A"

// socket is a line of /proc/net/tcp and its like.
type socket struct {
	local netip.AddrPort
	state string
	inode string
}

// parseSockets reads the format of proc_pid_net(5). Lines that do not fit are
// skipped, as is the heading.
func parseSockets(text string) []socket {
	var all []socket
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		local, found := parseSocketAddress(f[1])
		if found {
			all = append(all, socket{local, f[3], f[9]})
		}
	}
	return all
}

// parseSocketAddress reads an address in words of the machine's byte order, a
// colon, and a port: 0100007F:1F90 is 127.0.0.1:8080 on a little endian machine.
func parseSocketAddress(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	raw, err1 := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err1 != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), true
}
