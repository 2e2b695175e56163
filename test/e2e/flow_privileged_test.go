// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// flowReport is what a long-lived flow went through.
type flowReport struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
	// Longest is the longest silence between two answers, in milliseconds.
	Longest int64  `json:"longestMS"`
	Error   string `json:"error"`
}

// flowInterval is the time between two datagrams, or blocks, of a flow.
const flowInterval = 2 * time.Millisecond

// runFlow keeps one flow busy until SIGTERM and then reports. No datagram may
// be lost between idle machines on one kernel; a connection may not break.
func runFlow(mode, to string) error {
	c, err := net.DialTimeout(mode, to, agentTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("flowing")
	var r flowReport
	if u, ok := c.(*net.UDPConn); ok {
		if err := forceBuffer(u); err != nil {
			return err
		}
		r = flowUDP(c, stop)
	} else {
		r = flowTCP(c, stop)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// flowUDP sends numbered datagrams and counts the answers.
func flowUDP(c net.Conn, stop <-chan os.Signal) (r flowReport) {
	received := make(chan flowReport, 1)
	go func() {
		var got flowReport
		buf := make([]byte, 2048)
		last := time.Now()
		for {
			_, err := c.Read(buf)
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					got.Error = err.Error()
				}
				received <- got
				return
			}
			got.Received++
			got.Longest = max(got.Longest, time.Since(last).Milliseconds())
			last = time.Now()
		}
	}()
	tick := time.NewTicker(flowInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := c.Write(binary.BigEndian.AppendUint64(nil, r.Sent)); err != nil {
				r.Error = err.Error()
				return r
			}
			r.Sent++
		case <-stop:
			// What is under way has a second to arrive.
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				r.Error = err.Error()
			}
			got := <-received
			r.Received, r.Longest = got.Received, got.Longest
			if r.Error == "" {
				r.Error = got.Error
			}
			return r
		}
	}
}

// flowTCP sends blocks to and fro and compares them.
func flowTCP(c net.Conn, stop <-chan os.Signal) (r flowReport) {
	fail := func(err error) flowReport { r.Error = err.Error(); return r }
	greeting := json.NewDecoder(c)
	var a answer
	if err := greeting.Decode(&a); err != nil {
		return fail(err)
	}
	rest := io.MultiReader(greeting.Buffered(), c)
	if _, err := io.ReadFull(rest, make([]byte, 1)); err != nil { // the line's end
		return fail(err)
	}
	block, back := make([]byte, 16<<10), make([]byte, 16<<10)
	last := time.Now()
	tick := time.NewTicker(flowInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return r
		case <-tick.C:
		}
		binary.BigEndian.PutUint64(block, r.Sent)
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return fail(err)
		}
		if _, err := c.Write(block); err != nil {
			return fail(err)
		}
		r.Sent++
		if _, err := io.ReadFull(rest, back); err != nil {
			return fail(err)
		}
		if !bytes.Equal(block, back) {
			return fail(fmt.Errorf("block %d came back changed", r.Sent))
		}
		r.Received++
		r.Longest = max(r.Longest, time.Since(last).Milliseconds())
		last = time.Now()
	}
}
