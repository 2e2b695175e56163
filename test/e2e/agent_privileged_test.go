// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// The agent is this test binary, run again inside a pod or a host as a process
// of its own: only so does it belong to the pod's cgroup, whose socket programs
// are under test. Its first argument is what to do.

// answer is what an echo server saw of a caller, or what went wrong.
type answer struct {
	// Server is the address that the request came in on.
	Server string `json:"server"`
	// Caller is the caller's address as the server saw it.
	Caller string `json:"caller"`
	// From is where the answer came from, and Peer what getpeername says, both
	// as the caller saw it.
	From string `json:"from"`
	Peer string `json:"peer"`
	// Error is empty, or the system's error name such as ECONNREFUSED.
	Error string `json:"error"`
}

const agentTimeout = 3 * time.Second

func agent(args []string) error {
	switch args[0] {
	case "echo": // echo PORT: TCP and UDP, both families
		return echo(args[1])
	case "ask": // ask MODE ADDRESS: tcp, udp (connected) or sendto
		return json.NewEncoder(os.Stdout).Encode(ask(args[1], args[2]))
	case "flow": // flow MODE ADDRESS: until SIGTERM
		return runFlow(args[1], args[2])
	default:
		return fmt.Errorf("unknown command %q", args[0])
	}
}

// echo answers everybody with what it saw of them.
func echo(port string) error {
	l, err := net.Listen("tcp", "[::]:"+port)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echoTCP(c)
		}
	}()
	c, err := net.ListenPacket("udp", "[::]:"+port)
	if err != nil {
		return err
	}
	// A full queue is the socket's loss, not the network's: room for seconds.
	if err := forceBuffer(c.(*net.UDPConn)); err != nil {
		return err
	}
	fmt.Println("listening")
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		// What was asked comes back, with what was seen.
		reply, err := json.Marshal(answer{Caller: unmap(from)})
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(append(reply, buf[:n]...), from); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// forceBuffer gives a socket a receive buffer beyond net.core.rmem_max.
func forceBuffer(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 16<<20)
	})
	return errors.Join(err, set)
}

func echoTCP(c net.Conn) {
	defer c.Close()
	reply, err := json.Marshal(answer{Caller: unmap(c.RemoteAddr()), Server: unmap(c.LocalAddr())})
	if err != nil {
		return
	}
	if _, err := c.Write(append(reply, '\n')); err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func unmap(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()).String()
}

// ask talks to an echo server once.
func ask(mode, to string) (a answer) {
	err := func() error {
		if mode == "sendto" {
			return askUnconnected(to, &a)
		}
		c, err := net.DialTimeout(mode, to, agentTimeout)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(agentTimeout)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		if err := json.NewDecoder(c).Decode(&a); err != nil {
			return err
		}
		a.From, a.Peer = unmap(c.RemoteAddr()), peerOf(c.(syscall.Conn))
		return nil
	}()
	if err != nil {
		a.Error = errorName(err)
	}
	return a
}

func askUnconnected(to string, a *answer) error {
	ap, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(agentTimeout)); err != nil {
		return err
	}
	if _, err := c.WriteToUDPAddrPort([]byte("?"), ap); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(buf[:n-1], a); err != nil {
		return err
	}
	a.From = unmap(net.UDPAddrFromAddrPort(from))
	return nil
}

func peerOf(c syscall.Conn) (peer string) {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	err = raw.Control(func(fd uintptr) {
		sa, err := syscall.Getpeername(int(fd))
		switch sa := sa.(type) {
		case *syscall.SockaddrInet4:
			peer = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
		case *syscall.SockaddrInet6:
			peer = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String()
		default:
			peer = fmt.Sprint(err)
		}
	})
	if err != nil {
		return err.Error()
	}
	return peer
}

func errorName(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		for e, name := range map[syscall.Errno]string{
			syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ETIMEDOUT: "ETIMEDOUT",
			syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.ENETUNREACH: "ENETUNREACH", syscall.ECONNRESET: "ECONNRESET",
		} {
			if errno == e {
				return name
			}
		}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	return err.Error()
}
