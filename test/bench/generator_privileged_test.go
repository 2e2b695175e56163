// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A load generator is this test binary, run again in a pod or a namespace. Each
// of its workers is a thread that makes blocking system calls and nothing else:
// Go's scheduler and network poller would hide part of what is measured.

const (
	streamPort = 9001 // takes what comes
	echoPort   = 9002 // TCP and UDP: answers a byte with a byte
	closePort  = 9003 // the same, and closes

	servers = 8 // threads a port, as many as there are workers at most
	chunk   = 128 << 10
)

// load is what a client did.
type load struct {
	Count   uint64        `json:"count"` // transactions, connections or bytes
	Elapsed time.Duration `json:"elapsed"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
}

func (l *load) rate() float64 { return float64(l.Count) / l.Elapsed.Seconds() }

// generator runs "serve CPU" until it is killed, or one
// "stream|rr|crr|udp ADDRESS:PORT CPU WORKERS DURATION".
func generator(args []string) error {
	// Nothing is allocated while it counts, and no collection stops a thread
	// that sits in a system call without the scheduler's knowledge.
	debug.SetGCPercent(-1)
	if len(args) == 2 && args[0] == "serve" {
		return serve(args[1])
	}
	if len(args) != 5 {
		return fmt.Errorf("want MODE ADDRESS CPU WORKERS DURATION, got %q", args)
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	workers, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	duration, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	if err := pin(args[2]); err != nil {
		return err
	}
	l, err := generate(client{args[0], sockaddr(to), duration}, workers)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", args[0], to, err)
	}
	return json.NewEncoder(os.Stdout).Encode(l)
}

// pin binds the process to one processor, before it starts further threads.
func pin(cpu string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(n)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks { // the runtime's own threads are there already
		tid, err := strconv.Atoi(t.Name())
		if err == nil {
			err = unix.SchedSetaffinity(tid, &set)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("bind to processor %d: %w", n, err)
		}
	}
	return nil
}

// generate runs the workers side by side and adds up what they did.
func generate(c client, workers int) (*load, error) {
	// A thread in a raw system call keeps its P: there is one for each.
	runtime.GOMAXPROCS(workers + 2)
	var mu sync.Mutex
	var errs []error
	total, latencies := &load{}, []time.Duration(nil)
	var wg sync.WaitGroup
	start := time.Now()
	for range workers {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			n, times, err := c.run()
			mu.Lock()
			defer mu.Unlock()
			total.Count += n
			latencies = append(latencies, times...)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	if slices.Sort(latencies); len(latencies) > 0 {
		total.P50, total.P99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	}
	return total, errors.Join(errs...)
}

// serve answers on all ports until it is killed.
func serve(cpu string) error {
	if err := pin(cpu); err != nil {
		return err
	}
	runtime.GOMAXPROCS(4*servers + 2)
	ports := []struct {
		kind   int
		port   uint16
		handle func(fd int, buf []byte)
	}{
		{unix.SOCK_STREAM, streamPort, discard},
		{unix.SOCK_STREAM, echoPort, echo},
		{unix.SOCK_STREAM, closePort, answer},
		{unix.SOCK_DGRAM, echoPort, nil},
	}
	for _, p := range ports {
		fd, err := listen(p.kind, p.port)
		if err != nil {
			return fmt.Errorf("listen on port %d: %w", p.port, err)
		}
		for range servers {
			go func() {
				runtime.LockOSThread()
				if buf := make([]byte, chunk); p.handle == nil {
					answerDatagrams(fd, buf)
				} else {
					accept(fd, buf, p.handle)
				}
			}()
		}
	}
	if _, err := fmt.Println("listening"); err != nil {
		return err
	}
	select {}
}
