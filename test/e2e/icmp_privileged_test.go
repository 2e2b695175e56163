// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

type ctx = context.Context

// sockExtendedErr is struct sock_extended_err (linux/errqueue.h).
type sockExtendedErr struct {
	errno  unix.Errno
	origin uint8
	typ    uint8
	info   uint32
}

// expectTimeExceeded sends a packet that may not be forwarded once.
func expectTimeExceeded(to netip.Addr) error {
	level, option, want := unix.IPPROTO_IP, unix.IP_TTL, uint8(11) // RFC 792
	if to.Is6() {
		level, option, want = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 3 // RFC 4443
	}
	e, err := provoke(to, 10, func(fd int) error { return unix.SetsockoptInt(fd, level, option, 1) })
	if err != nil {
		return err
	}
	if e.typ != want {
		return fmt.Errorf("ICMP type is %d, want %d (%w)", e.typ, want, e.errno)
	}
	return nil
}

// expectPacketTooBig sends a packet that fits the sender's device and not the
// receiver's, and may not be fragmented.
func expectPacketTooBig(to netip.Addr) error {
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if to.Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	e, err := provoke(to, 1400, func(fd int) error { return unix.SetsockoptInt(fd, level, option, unix.IP_PMTUDISC_DO) })
	if err != nil {
		return err
	}
	if e.errno != unix.EMSGSIZE || e.info != 1300 {
		return fmt.Errorf("error is %w with MTU %d, want EMSGSIZE and 1300", e.errno, e.info)
	}
	return nil
}

// provoke sends a datagram and returns the ICMP error that it caused.
func provoke(to netip.Addr, size int, setup func(fd int) error) (sockExtendedErr, error) {
	var none sockExtendedErr
	domain, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: port}
	if to.Is6() {
		domain, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
		sa = &unix.SockaddrInet6{Port: port, Addr: to.As16()}
	} else {
		sa.(*unix.SockaddrInet4).Addr = to.As4()
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM, 0)
	if err != nil {
		return none, err
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.SetsockoptInt(fd, level, option, 1), setup(fd)); err != nil {
		return none, err
	}
	if err := unix.Sendto(fd, make([]byte, size), 0, sa); err != nil {
		return none, os.NewSyscallError("sendto", err)
	}
	return errorQueue(fd)
}

// errorQueue waits for an entry of a socket's error queue.
func errorQueue(fd int) (e sockExtendedErr, err error) {
	pfd := []unix.PollFd{{Fd: int32(fd)}} // POLLERR is always reported
	n, err := unix.Poll(pfd, int(3*time.Second/time.Millisecond))
	if err != nil {
		return e, os.NewSyscallError("poll", err)
	}
	if n == 0 {
		return e, errors.New("no ICMP error came within 3 seconds")
	}
	oob := make([]byte, 512)
	_, oobn, _, _, err := unix.Recvmsg(fd, make([]byte, 2048), oob, unix.MSG_ERRQUEUE)
	if err != nil {
		return e, os.NewSyscallError("recvmsg", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return e, err
	}
	for _, m := range msgs {
		if m.Header.Type == unix.IP_RECVERR || m.Header.Type == unix.IPV6_RECVERR {
			d := m.Data
			return sockExtendedErr{
				errno:  unix.Errno(binary.NativeEndian.Uint32(d)),
				origin: d[4], typ: d[5], info: binary.NativeEndian.Uint32(d[8:]),
			}, nil
		}
	}
	return e, errors.New("the error queue has no ICMP error")
}
