// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// client is one worker's task.
type client struct {
	mode     string
	to       *unix.RawSockaddrInet6
	duration time.Duration
}

// run returns how often it did what it had to, and how long each took.
func (c client) run() (count uint64, times []time.Duration, err error) {
	buf := make([]byte, chunk)
	if c.mode != "stream" {
		times = make([]time.Duration, 0, 1<<20) // so that it never grows
	}
	var once func() (uint64, error)
	switch c.mode {
	case "crr":
		once = func() (uint64, error) { return 1, c.connection(buf) }
	case "rr", "udp", "stream":
		kind := unix.SOCK_STREAM
		if c.mode == "udp" {
			kind = unix.SOCK_DGRAM
		}
		fd, err := c.connect(kind)
		if err != nil {
			return 0, nil, err
		}
		defer closeFD(fd)
		once = func() (uint64, error) { return 1, exchange(fd, buf) }
		if c.mode == "stream" {
			once = func() (uint64, error) { n, err := call(unix.SYS_WRITE, fd, buf); return uint64(n), err }
		}
	default:
		return 0, nil, fmt.Errorf("unknown mode %q", c.mode)
	}
	begin := time.Now()
	for last := begin; last.Sub(begin) < c.duration; {
		n, err := once()
		if err != nil {
			return count, times, err
		}
		now := time.Now()
		if count += n; times != nil && len(times) < cap(times) {
			times = append(times, now.Sub(last))
		}
		last = now
	}
	return count, times, nil
}

// connection connects, asks, and reads the answer and the end. The server closes
// first, so that no port of the client's waits for two minutes.
func (c client) connection(buf []byte) error {
	fd, err := c.connect(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if err := exchange(fd, buf); err != nil {
		return err
	}
	if n, err := call(unix.SYS_READ, fd, buf[:1]); n != 0 || err != nil {
		return fmt.Errorf("read the end: %d bytes, %w", n, err)
	}
	return nil
}

// connect makes an IPv6 socket for IPv6 and an IPv4 socket for IPv4: a mapped
// address is a way of its own through the kernel.
func (c client) connect(kind int) (int, error) {
	family, size := unix.AF_INET6, unsafe.Sizeof(unix.RawSockaddrInet6{})
	if c.to.Family == unix.AF_INET {
		family, size = unix.AF_INET, unsafe.Sizeof(unix.RawSockaddrInet4{})
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return 0, err
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(c.to)), size); e != 0 {
		closeFD(fd)
		return 0, fmt.Errorf("connect: %w", e)
	}
	return fd, nil
}

// sockaddr returns an address as connect(2) takes it; that of IPv4 is at the
// start of the larger structure.
func sockaddr(to netip.AddrPort) *unix.RawSockaddrInet6 {
	port := to.Port()<<8 | to.Port()>>8
	sa := &unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: to.Addr().As4()}
	}
	return sa
}

// exchange sends a byte and waits for one.
func exchange(fd int, buf []byte) error {
	if n, err := call(unix.SYS_WRITE, fd, buf[:1]); n != 1 {
		return fmt.Errorf("write: %d bytes, %w", n, err)
	}
	if n, err := call(unix.SYS_READ, fd, buf[:1]); n != 1 {
		return fmt.Errorf("read: %d bytes, %w", n, err)
	}
	return nil
}

// call is read(2) or write(2), unknown to the scheduler.
func call(number uintptr, fd int, buf []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

func closeFD(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// listen takes both families.
func listen(kind int, port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		// Connections of the server before this one may wait for their end.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)})
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 1024)
	}
	return fd, err
}

func accept(listener int, buf []byte, handle func(fd int, buf []byte)) {
	for {
		fd, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		if e != 0 {
			continue // the caller gave up, and fails by itself
		}
		handle(int(fd), buf)
		closeFD(int(fd))
	}
}

func discard(fd int, buf []byte) {
	for {
		if n, err := call(unix.SYS_READ, fd, buf); n == 0 || err != nil {
			return
		}
	}
}

func echo(fd int, buf []byte) {
	if unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) != nil {
		return
	}
	for answer1(fd, buf) {
	}
}

func answer(fd int, buf []byte) { answer1(fd, buf) }

func answer1(fd int, buf []byte) bool {
	n, err := call(unix.SYS_READ, fd, buf[:1])
	if n != 1 || err != nil {
		return false
	}
	_, err = call(unix.SYS_WRITE, fd, buf[:1])
	return err == nil
}

func answerDatagrams(fd int, buf []byte) {
	for {
		var from unix.RawSockaddrInet6
		size := uint32(unsafe.Sizeof(from))
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), chunk, 0,
			uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		if e != 0 {
			continue
		}
		unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), n, 0,
			uintptr(unsafe.Pointer(&from)), uintptr(size))
	}
}
