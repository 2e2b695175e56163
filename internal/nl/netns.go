// SPDX-License-Identifier: Apache-2.0

package nl

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// WithNetNS runs fn in the network namespace that f is open on, such as the
// file of a pod's namespace.
//
// It runs on a thread of the kernel that does nothing else meanwhile: sockets
// that fn opens and programs that it starts belong to the namespace, goroutines
// that it starts do not. If the way back fails, the thread is thrown away, so
// that no other goroutine ever runs in the wrong namespace. The caller's own
// thread stays where it is. A panic of fn becomes one of the caller.
func WithNetNS(f *os.File, fn func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		out := outcome{err: errors.New("run in network namespace: the function ended its goroutine")}
		// A thread whose goroutine ends while locked to it ends, too.
		runtime.LockOSThread()
		var home *os.File
		defer func() {
			if r := recover(); r != nil {
				out.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
			if home != nil && unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			if home != nil {
				home.Close()
			}
			done <- out
		}()
		var err error
		// Not /proc/self, which shows the namespace of the main thread.
		if home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			out.err = fmt.Errorf("open own network namespace: %w", err)
			return
		}
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			out.err = fmt.Errorf("enter network namespace %s: %w", f.Name(), err)
			return
		}
		out.err = fn()
	}()
	out := <-done
	// f may have no other reference left, and a collected file is a closed one.
	runtime.KeepAlive(f)
	if out.panicked != nil {
		panic(out.panicked)
	}
	return out.err
}
