// SPDX-License-Identifier: Apache-2.0

package talk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

// Kinds of flows, beside TCP and UDP: one connection with blocks to and fro, numbered
// datagrams.
const (
	Connect = "connect" // a new connection for each question to an echo
	Request = "request" // a new connection for each GET
	Kept    = "kept"    // GET after GET, by as few connections as possible
)

// Report is what a flow went through.
type Report struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
	// Longest is the longest silence between two answers, in milliseconds.
	Longest int64 `json:"longestMS"`
	// Names counts the answers of each server that said its name.
	Names map[string]int `json:"names,omitempty"`
	// Errors are the first that happened, and when.
	Errors []string `json:"errors,omitempty"`

	last time.Time
}

const (
	// interval between two questions of a flow.
	interval = 10 * time.Millisecond
	// stall is how long a connection may be silent before it counts as broken.
	stall = time.Minute
	// maxErrors are kept: more say nothing new.
	maxErrors = 10
)

// Flow is a flow under way.
type Flow struct {
	stop context.CancelFunc
	done chan Report
}

// Start starts a flow. It returns when the first answer has come, or did not.
func Start(kind, to string) (*Flow, error) {
	ctx, stop := context.WithCancel(context.Background())
	kind, family := splitFamily(kind)
	step, end, err := newStep(kind, family, to)
	if err != nil {
		stop()
		return nil, err
	}
	r := Report{Names: map[string]int{}, last: time.Now()}
	r.note(step(&r))
	if len(r.Errors) > 0 {
		stop()
		return nil, errors.Join(errors.New(r.Errors[0]), end(&r))
	}
	f := &Flow{stop, make(chan Report, 1)}
	go func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for broken := false; ; {
			select {
			case <-ctx.Done():
				r.note(end(&r))
				f.done <- r
				return
			case <-tick.C:
			}
			if broken {
				continue
			}
			err := step(&r)
			r.note(err)
			broken = err != nil && (kind == TCP || kind == UDP) // there is one connection only
		}
	}()
	return f, nil
}

// End ends the flow.
func (f *Flow) End() Report {
	f.stop()
	return <-f.done
}

func (r *Report) note(err error) {
	if err != nil && len(r.Errors) < maxErrors {
		r.Errors = append(r.Errors, fmt.Sprintf("%s: question %d: %s", time.Now().Format("15:04:05.000"), r.Sent, ErrorName(err)))
	}
}

func (r *Report) answered(name string) {
	r.Received++
	if name != "" {
		r.Names[name]++
	}
	now := time.Now()
	r.Longest = max(r.Longest, now.Sub(r.last).Milliseconds())
	r.last = now
}

// step asks once, end ends what it asked by.
type (
	step func(*Report) error
	end  func(*Report) error
)

func newStep(kind, family, to string) (step, end, error) {
	none := func(*Report) error { return nil }
	switch kind {
	case TCP, UDP:
		conn, err := net.DialTimeout(kind+family, to, timeout)
		if err != nil {
			return nil, nil, err
		}
		if kind == TCP {
			return blocks(conn), func(*Report) error { return conn.Close() }, nil
		}
		step, end := datagrams(conn)
		return step, end, nil
	case Connect:
		return func(r *Report) error {
			r.Sent++
			a := Ask(context.Background(), TCP+family, to, 1)
			if a.Error != "" {
				return errors.New(a.Error)
			}
			r.answered("")
			return nil
		}, none, nil
	case Request, Kept:
		client := newClient("tcp"+family, kind == Kept)
		return requests(client, to), func(*Report) error { client.CloseIdleConnections(); return nil }, nil
	}
	return nil, nil, fmt.Errorf("unknown kind %q", kind)
}

// blocks go to and fro by one connection.
func blocks(conn net.Conn) step {
	sent, got := block(4<<10), make([]byte, 4<<10)
	return func(r *Report) error {
		binary.BigEndian.PutUint64(sent, r.Sent)
		r.Sent++
		if err := conn.SetDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		if _, err := conn.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if !slices.Equal(sent, got) {
			return errors.New("came back changed")
		}
		r.answered("")
		return nil
	}
}

// datagrams are sent whether those before were answered or not.
func datagrams(conn net.Conn) (step, end) {
	received := make(chan Report, 1)
	go func() {
		got, buf := Report{last: time.Now()}, make([]byte, 1<<11)
		for {
			if _, err := conn.Read(buf); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					got.note(err)
				}
				received <- got
				return
			}
			got.answered("")
		}
	}()
	send := func(r *Report) error {
		_, err := conn.Write(binary.BigEndian.AppendUint64(nil, r.Sent))
		r.Sent++
		return err
	}
	finish := func(r *Report) error {
		// What is under way has some time to arrive.
		err := conn.SetReadDeadline(time.Now().Add(time.Second))
		got := <-received
		r.Received, r.Longest, r.Errors = got.Received, got.Longest, append(r.Errors, got.Errors...)
		return errors.Join(err, conn.Close())
	}
	return send, finish
}

func requests(client *http.Client, to string) step {
	return func(r *Report) error {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		r.Sent++
		a, err := get(ctx, client, to)
		if err != nil {
			return err
		}
		r.answered(a.Name)
		return nil
	}
}
