// SPDX-License-Identifier: Apache-2.0

// Package talk is what the agent says to others, and how a test hears of it: one
// question and its answer, or a flow that goes on until it is told to end.
package talk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Answer is what came of a question.
type Answer struct {
	// Name is who answered, Server the address it was asked at and Caller the one that
	// it was asked from, as the other side saw them. An echo says none of them.
	Name   string `json:"name,omitempty"`
	Server string `json:"server,omitempty"`
	Caller string `json:"caller,omitempty"`
	// Error is empty, or the system's name such as ECONNREFUSED, or what else it was.
	Error string `json:"error,omitempty"`
}

// Kinds of questions. Each may have a family behind it, as in "tcp6".
const (
	TCP  = "tcp"  // a connection to an echo
	UDP  = "udp"  // a datagram to an echo, from a connected socket
	Sent = "sent" // the same from one that is not connected
	Who  = "who"  // a datagram to the server of names
	HTTP = "http" // GET /who
)

// timeout is for one question. Nothing depends on it but how long a failure takes.
const timeout = 10 * time.Second

// Ask asks once. Size is how much an echo gets.
func Ask(ctx context.Context, kind, to string, size int) (a Answer) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	kind, family := splitFamily(kind)
	var err error
	switch kind {
	case TCP:
		err = askTCP(ctx, "tcp"+family, to, size)
	case UDP:
		err = askUDP(ctx, "udp"+family, to, block(size))
	case Sent:
		err = askUnconnected(ctx, "udp"+family, to, block(size))
	case Who:
		a, err = askWho(ctx, "udp"+family, to)
	case HTTP:
		a, err = get(ctx, newClient("tcp"+family, false), to)
	default:
		err = fmt.Errorf("unknown kind %q", kind)
	}
	if err != nil {
		a.Error = ErrorName(err)
	}
	return a
}

func splitFamily(kind string) (string, string) {
	for _, family := range []string{"4", "6"} {
		if base, ok := strings.CutSuffix(kind, family); ok {
			return base, family
		}
	}
	return kind, ""
}

// dial connects, and gives the connection the context's time.
func dial(ctx context.Context, network, to string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(end)
	}
	return conn, err
}

func askTCP(ctx context.Context, network, to string, size int) error {
	conn, err := dial(ctx, network, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := block(size)
	written := make(chan error, 1)
	go func() { // both at once: neither side can hold all of a large block
		_, err := conn.Write(sent)
		written <- err
	}()
	return errors.Join(readBack(conn, sent), <-written)
}

// block is content that shows where a part of it is missing.
func block(size int) []byte {
	b := make([]byte, max(size, 1))
	for i := range b {
		b[i] = byte(i ^ i>>8)
	}
	return b
}

func readBack(r io.Reader, sent []byte) error {
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	return same(got, sent)
}

func same(got, sent []byte) error {
	if !bytes.Equal(got, sent) {
		return errors.New("came back changed")
	}
	return nil
}

func askUDP(ctx context.Context, network, to string, sent []byte) error {
	conn, err := dial(ctx, network, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := exchange(conn, sent)
	return errors.Join(err, same(got, sent))
}

func exchange(conn net.Conn, sent []byte) ([]byte, error) {
	if _, err := conn.Write(sent); err != nil {
		return nil, err
	}
	got := make([]byte, 1<<16)
	n, err := conn.Read(got)
	return got[:n], err
}

// askUnconnected wants the answer from the address that it asked.
func askUnconnected(ctx context.Context, network, to string, sent []byte) error {
	server, err := net.ResolveUDPAddr(network, to)
	if err != nil {
		return err
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, ":0")
	if err != nil {
		return err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	if _, err := conn.WriteTo(sent, server); err != nil {
		return err
	}
	got := make([]byte, 1<<16)
	n, from, err := conn.ReadFrom(got)
	if err != nil {
		return err
	}
	if a := Unmap(from); a != Unmap(server) {
		return fmt.Errorf("answered from %s", a)
	}
	return same(got[:n], sent)
}

func askWho(ctx context.Context, network, to string) (a Answer, err error) {
	conn, err := dial(ctx, network, to)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	got, err := exchange(conn, []byte("who?"))
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(got, &a)
}

// newClient has no proxy, and gets addresses of one family where one is named.
func newClient(network string, keep bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: !keep,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

func get(ctx context.Context, client *http.Client, to string) (a Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to+"/who", http.NoBody)
	if err != nil {
		return a, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return a, json.Unmarshal(body, &a)
}

// Unmap writes an address as people do: IPv4 is IPv4, on whatever socket it came.
func Unmap(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()).String()
}

// ErrorName is the system's name of an error, if it has one.
func ErrorName(err error) string {
	for errno, name := range map[syscall.Errno]string{
		syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET", syscall.EHOSTUNREACH: "EHOSTUNREACH",
		syscall.ENETUNREACH: "ENETUNREACH", syscall.EACCES: "EACCES", syscall.EPERM: "EPERM", syscall.EMSGSIZE: "EMSGSIZE",
	} {
		if errors.Is(err, errno) {
			return name
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if timed, ok := errors.AsType[net.Error](err); ok && timed.Timeout() {
		return "timeout"
	}
	return err.Error()
}

// Err is what went wrong.
func (a Answer) Err() error {
	if a.Error == "" {
		return nil
	}
	return errors.New(a.Error)
}
